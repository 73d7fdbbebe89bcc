package main

// A region is one script with the places its people bank and telephone in.
// Lists are short: 10,000 customers only need to look like customers.
type region struct {
	weight int // customers in a hundred
	given  []string
	family []string
	join   string // between the two names
	swap   bool   // family name first
	phones []string
	banks  []bank
}

// bank is the shape of a country's IBAN: '#' is a digit, '?' a capital letter.
type bank struct{ country, account string }

// Telephone numbers hold 000 where a subscriber's number starts, or lie in a
// range kept for fiction, so that they reach nobody.
var regions = []region{
	{
		weight: 40, join: " ",
		given:  []string{"Ada", "Zoë", "Łukasz", "Siobhán", "José", "François", "Jürgen", "Åsa", "Øyvind", "Núria", "Dvořák", "Ștefan", "Çağla", "Agnès", "Gísli", "Mary-Jane", "Noah", "Ngọc"},
		family: []string{"Müller", "O'Brien", "García Márquez", "Lefèvre", "Wiśniewski", "Sørensen", "Lindström", "Żółć", "van der Berg", "Šimůnek", "Ibáñez", "Þórsdóttir", "Smith", "Yıldız", "Brânză", "Nguyễn", "D’Angelo", "Weiß"},
		phones: []string{"+44 7700 900###", "+1 202-555-01##", "+33 1 99 00 ## ##", "+49 171 39200##", "+48 22 000 ## ##", "(202) 555-01##"},
		banks:  []bank{{"DE", "##################"}, {"GB", "????##############"}, {"NL", "????##########"}, {"PL", "########################"}, {"ES", "####################"}, {"SE", "####################"}, {"AT", "################"}, {"FR", "#######################"}},
	},
	{
		weight: 12, join: " ",
		given:  []string{"Олена", "Андрій", "Наталія", "Тарас", "Мария", "Георги", "Милица", "Сергей", "Анастасия", "Богдан", "Їжак", "Юлія"},
		family: []string{"Шевченко", "Коваленко", "Іваненко", "Петров", "Димитров", "Соколова", "Јовановић", "Бондаренко", "Ткачук", "Щербак", "Ґудзь", "Мельник"},
		phones: []string{"+380 44 000 ## ##", "+359 2 000 ####"},
		banks:  []bank{{"UA", "#########################"}, {"BG", "????##############"}, {"RS", "##################"}},
	},
	{
		weight: 8, join: " ",
		given:  []string{"Ελένη", "Γιώργος", "Σοφία", "Νίκος", "Κατερίνα", "Δημήτρης", "Άννα", "Οδυσσέας", "Θάλεια", "Ιωάννης"},
		family: []string{"Παπαδόπουλος", "Γεωργίου", "Οικονόμου", "Βλάχου", "Αντωνίου", "Καραγιάννης", "Μακρή", "Ψαρράς", "Ξένου", "Στεφανίδης"},
		phones: []string{"+30 21 000 ## ###"},
		banks:  []bank{{"GR", "#######################"}, {"CY", "########################"}},
	},
	{
		weight: 12, join: " ",
		given:  []string{"فاطمة", "محمد", "ليلى", "يوسف", "مريم", "عمر", "نور", "خالد", "سلمى", "حسن", "زينب", "إبراهيم"},
		family: []string{"الحسيني", "المصري", "بن سالم", "الخوري", "حداد", "النجار", "الزهراني", "عبد الله", "القاسم", "منصور"},
		phones: []string{"+971 4 000 ####", "+966 11 000 ####", "+20 2 0000 ####"},
		banks:  []bank{{"AE", "###################"}, {"SA", "####################"}, {"EG", "#########################"}},
	},
	{
		weight: 12, join: "", swap: true,
		given:  []string{"伟", "芳", "秀英", "敏", "静", "丽", "强", "磊", "洋", "艳", "志明", "雨桐", "𠮷祥"},
		family: []string{"王", "李", "张", "刘", "陈", "杨", "黄", "赵", "欧阳", "司马", "吴", "周"},
		phones: []string{"+86 10 0000 ####", "+886 2 0000 ####"},
		banks:  []bank{{"LI", "#################"}, {"DE", "##################"}},
	},
	{
		weight: 8, join: " ", swap: true,
		given:  []string{"さくら", "太郎", "花子", "翔太", "美咲", "健一", "結衣", "ゆうき", "陽菜", "蓮", "マリア", "彩"},
		family: []string{"佐藤", "鈴木", "高橋", "田中", "渡邊", "伊藤", "山本", "中村", "小林", "髙木", "加藤", "五十嵐"},
		phones: []string{"+81 3-0000-####"},
		banks:  []bank{{"GB", "????##############"}, {"CH", "#################"}},
	},
	{
		weight: 8, join: " ",
		given:  []string{"प्रिया", "अर्जुन", "अनन्या", "राहुल", "कृष्णा", "सुनीता", "विक्रम", "दीपिका", "मोहन", "ज्योति"},
		family: []string{"शर्मा", "वर्मा", "सिंह", "गुप्ता", "मिश्रा", "त्रिपाठी", "यादव", "श्रीवास्तव", "जोशी", "चौधरी"},
		phones: []string{"+91 11 0000 ####"},
		banks:  []bank{{"GB", "????##############"}, {"BE", "############"}},
	},
}
