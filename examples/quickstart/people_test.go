package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const titles = "id,name,email,phone,card,iban,born,note,plan\n"

func TestReadPeople(t *testing.T) {
	t.Parallel()
	people, err := readPeople(strings.NewReader("\ufeffPlan, id ,name,email,phone,card,iban,note,born\r\n" +
		"plus,7,李伟,li@example.com,+86 1,4242 4242 4242 4242,DE1,\"a, \"\"b\"\"\nc 🎂\",1980-02-29\r\n" +
		",x/8,,a@b,,,,,\n"))
	require.NoError(t, err)
	require.Equal(t, []person{
		{id: "7", name: "李伟", email: "li@example.com", phone: "+86 1", card: "4242 4242 4242 4242", iban: "DE1", born: time.Date(1980, 2, 29, 0, 0, 0, 0, time.UTC), note: "a, \"b\"\nc 🎂", plan: "plus"},
		{id: "x/8", email: "a@b"},
	}, people)
}

func TestReadPeopleRefuses(t *testing.T) {
	t.Parallel()
	good := "1,Ada,ada@example.com,,,,1815-12-10,,free\n"
	for name, c := range map[string]struct {
		file string
		want []string
	}{
		"nothing":        {"", []string{"the file is empty", "id,name,email"}},
		"no rows":        {titles, []string{"no customers"}},
		"missing column": {"id,name,email,phone,card,note,plan\n" + good, []string{"line 1: missing columns: iban, born"}},
		"unknown column": {"id,name,email,phone,card,iban,born,note,plan,shoe\n" + good, []string{"line 1: column 10 is unknown"}},
		"column twice":   {"id,id,name,email,phone,card,iban,born,note,plan\n" + good, []string{"line 1: column 2", "twice"}},
		"short row":      {titles + good + "2,B,b@example.com\n", []string{"line 3: 3 fields, the header has 9"}},
		"bad date":       {titles + good + "2,\"B\nB\",b@example.com,,,,10.12.1815,,\n3,C,c@example.com,,,,1815-13-10,,\n", []string{"line 3: column born", "line 5: column born"}},
		"bad e-mail":     {titles + "2,B,secret,,,,,,\n", []string{"line 2: column email"}},
		"no id":          {titles + " ,B,b@example.com,,,,,,\n", []string{"line 2: column id"}},
		"id twice":       {titles + good + good, []string{"line 3: the same id as line 2"}},
		"not UTF-8":      {titles + "2,M\xfcller,b@example.com,,,,,,\n", []string{"line 2: column name is not UTF-8"}},
		"open quote":     {titles + good + "2,\"secret,b@example.com,,,,,,\n", []string{"line 3"}},
		"many":           {titles + strings.Repeat("2,secret,secret,,,,,,\n", 25), []string{"line 11: column email", "and 15 more"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := readPeople(strings.NewReader(c.file))
			require.Error(t, err)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestSampleReads(t *testing.T) {
	t.Parallel()
	people, err := readFile("")
	require.NoError(t, err)
	require.Len(t, people, 10_000)
}
