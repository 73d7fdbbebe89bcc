package peers

import "strconv"

// Subjects is how many people the records are of.
const Subjects = 10_000

// RecordBytes is the size of a record's plaintext.
const RecordBytes = 265

// Record is what is sealed: personal data in five fields.
type Record struct {
	Name  string `json:"name"`
	Email string `json:"email"`
	Phone string `json:"phone"`
	IBAN  string `json:"iban"`
	Note  string `json:"note"`
}

// Sample is the record that is measured: RecordBytes bytes of text.
var Sample = Record{
	Name:  "Ada Lovelace-Byron, Countess of Lovelace",
	Email: "ada.lovelace@analytical-engine.example.com",
	Phone: "+44 20 7946 0958 ext 1815",
	IBAN:  "GB33BUKB20201555555555 / DE89370400440532013000",
	Note:  "Met at the Royal Society; asked to be called after four, prefers letters to calls, has a twin brother, no post.",
}

func (r *Record) fields() [5]*string {
	return [5]*string{&r.Name, &r.Email, &r.Phone, &r.IBAN, &r.Note}
}

// subjectIDs are the identifiers that the records of the subjects are bound to.
func subjectIDs() []string {
	ids := make([]string, Subjects)
	for i := range ids {
		ids[i] = "cus_" + strconv.Itoa(i)
	}
	return ids
}
