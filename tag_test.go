package lethe_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe"
	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/envelope/envelopetest"
)

type (
	secretText = lethe.Secret[string]
	point      struct{ X, Y int }
	homeTagged struct {
		Street secretText `lethe:"street"`
	}
	homeClear  struct{ City string }
	loopTagged struct {
		Name secretText  `lethe:"name"`
		Next *loopTagged `lethe:"next"`
	}
	hiddenBase struct {
		Base secretText `lethe:"base"`
	}
	// OpenBase is embedded.
	OpenBase struct {
		Base secretText `lethe:"base"`
	}
	badText     struct{}
	wrappedText struct {
		Verified bool
		lethe.Secret[string]
	}
	pointedText struct{ *lethe.Secret[string] }
	definedText lethe.Secret[string]
)

func (badText) MarshalText() ([]byte, error) { return nil, nil }

// forMistakes returns what For says about T, which must be wrong.
func forMistakes[T any](t *testing.T, ring *envelope.Keyring) string {
	t.Helper()
	s, err := lethe.For[T](ring)
	require.Error(t, err, "%T", *new(T))
	require.Nil(t, s)
	return err.Error()
}

// refusesTags returns a check that For reports exactly one mistake, with these words.
func refusesTags[T any](words ...string) func(t *testing.T, ring *envelope.Keyring) {
	return func(t *testing.T, ring *envelope.Keyring) {
		t.Helper()
		got := forMistakes[T](t, ring)
		_, list, ok := strings.Cut(got, "are wrong:\n")
		require.True(t, ok, got)
		require.Len(t, strings.Split(list, "\n"), 1, "one mistake: %s", got)
		for _, word := range words {
			require.Contains(t, list, word)
		}
	}
}

// reportsTags is for mistakes that entail others.
func reportsTags[T any](words ...string) func(t *testing.T, ring *envelope.Keyring) {
	return func(t *testing.T, ring *envelope.Keyring) {
		t.Helper()
		got := forMistakes[T](t, ring)
		for _, word := range words {
			require.Contains(t, got, word)
		}
	}
}

func TestForReportsEveryMistake(t *testing.T) { //nolint:maintidx // a table
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	// What most cases start from.
	type good struct {
		Keys lethe.Keys `lethe:"rows"`
		ID   string     `lethe:"subject=user"`
		Fine secretText `lethe:"fine"`
	}
	_, err := lethe.For[good](ring)
	require.NoError(t, err)

	cases := map[string]func(t *testing.T, ring *envelope.Keyring){
		"unknown option": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:"bad,colour=red"`
		}](".Bad:", `unknown option "colour"`, "group, purpose, mask, json"),
		"unknown option without a value": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:"bad,omitempty"`
		}](".Bad:", `unknown option "omitempty"`),
		"empty option": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:"bad,"`
		}](".Bad:", `unknown option ""`),
		"option of another kind of field": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:"bad,bits=16"`
		}](".Bad:", `unknown option "bits"`),
		"option on Keys": refusesTags[struct {
			Bad  lethe.Keys `lethe:"rows,purpose=p"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
		}](".Bad:", `unknown option "purpose"`),
		"mask on an index": refusesTags[struct {
			Keys lethe.Keys       `lethe:"rows"`
			ID   string           `lethe:"subject=user"`
			Fine secretText       `lethe:"fine"`
			Bad  lethe.BlindIndex `lethe:"bad,of=fine,norm=exact/1,mask=full"`
		}](".Bad:", `unknown option "mask"`),
		"duplicate option": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:"bad,mask=full,mask=email"`
		}](".Bad:", `option "mask" is given twice`),
		"duplicate role": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Bad  string     `lethe:"id,id"`
			Fine secretText `lethe:"fine"`
		}](".Bad:", `option "id" is given twice`),
		"token": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:"bad,token=card"`
		}](".Bad:", `"token" belongs on a field of type lethe.Token`),
		"retain": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:"bad,retain=10y"`
		}](".Bad:", `"retain" does nothing yet`),
		"value missing": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:"bad,purpose"`
		}](".Bad:", `option "purpose"`, "key=value"),
		"value empty": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:"bad,purpose="`
		}](".Bad:", `option "purpose"`, "key=value"),
		"json with a value": refusesTags[struct {
			Keys lethe.Keys          `lethe:"rows"`
			ID   string              `lethe:"subject=user"`
			Fine secretText          `lethe:"fine"`
			Bad  lethe.Secret[point] `lethe:"bad,json=yes"`
		}](".Bad:", `option "json"`, "json alone"),

		"Secret without a tag": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText
		}](".Bad:", `lethe:"bad"`),
		"Secret with an empty tag": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:""`
		}](".Bad:", "name is empty"),
		"Secret with options only": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:",mask=full"`
		}](".Bad:", "name is empty"),
		"Secret without a name": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:"mask=full"`
		}](".Bad:", "a stable name comes first"),
		"Secret with a role": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:"subject=user"`
		}](".Bad:", "a stable name comes first"),
		"name with a space": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:"two words"`
		}](".Bad:", `"two words"`),
		"Keys without a tag": refusesTags[struct {
			Bad  lethe.Keys
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
		}](".Bad:", "stable name of the record"),
		"Keys with an empty tag": refusesTags[struct {
			Bad  lethe.Keys `lethe:""`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
		}](".Bad:", "name is empty"),
		"BlindIndex without a tag": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  lethe.BlindIndex
		}](".Bad:", "BlindIndex needs a tag"),

		"role on a plain field is unknown": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  string     `lethe:"bad"`
		}](".Bad:", "make it a lethe.Secret[string]"),
		"plain field with options": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  int        `lethe:"bad,mask=last4"`
		}](".Bad:", "make it a lethe.Secret[int]"),
		"group alone": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  string     `lethe:"id,group=g"`
		}](".Bad:", "group= needs subject="),
		"subject without a kind": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  string     `lethe:"subject="`
		}](".Bad:", "subject=KIND"),
		"subject of a kind with a space": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  string     `lethe:"subject=a user,group=g"`
		}](".Bad:", `"a user"`),
		"id with a value": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  string     `lethe:"subject=user,group=g,id=yes"`
		}](".Bad:", `option "id"`),
		"seal option on a subject": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  string     `lethe:"id,mask=full"`
		}](".Bad:", `unknown option "mask"`, "role only"),

		"unexported Secret": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			bad  secretText `lethe:"bad"`
		}](".bad:", "not exported"),
		"unexported Secret without a tag": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			bad  secretText
		}](".bad:", "not exported"),
		"unexported subject": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			bad  string     `lethe:"id"`
		}](".bad:", "not exported"),
		"unexported struct with a Secret": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			bad  homeTagged
		}](".bad:", "not exported", "lethe.Secret[string]"),
		"unexported embedded pointer": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			*hiddenBase
		}](".hiddenBase:", "not exported"),
		"pointer to a Secret": refusesTags[struct {
			Keys lethe.Keys  `lethe:"rows"`
			ID   string      `lethe:"subject=user"`
			Fine secretText  `lethe:"fine"`
			Bad  *secretText `lethe:"bad"`
		}](".Bad:", "pointer to lethe.Secret[string]", "use lethe.Secret[string] itself"),
		"pointer to Keys": reportsTags[struct {
			Bad  *lethe.Keys `lethe:"rows"`
			ID   string      `lethe:"subject=user"`
			Fine secretText  `lethe:"fine"`
		}](".Bad:", "pointer to lethe.Keys", "exactly one lethe.Keys field, has 0"),
		"pointer to a BlindIndex": refusesTags[struct {
			Keys lethe.Keys        `lethe:"rows"`
			ID   string            `lethe:"subject=user"`
			Fine secretText        `lethe:"fine"`
			Bad  *lethe.BlindIndex `lethe:"bad,of=fine,norm=exact/1"`
		}](".Bad:", "pointer to lethe.BlindIndex"),
		"Secret of a pointer": refusesTags[struct {
			Keys lethe.Keys               `lethe:"rows"`
			ID   string                   `lethe:"subject=user"`
			Fine secretText               `lethe:"fine"`
			Bad  lethe.Secret[*time.Time] `lethe:"bad"`
		}](".Bad:", "*time.Time cannot be sealed: use time.Time"),
		"Secret of an interface": refusesTags[struct {
			Keys lethe.Keys        `lethe:"rows"`
			ID   string            `lethe:"subject=user"`
			Fine secretText        `lethe:"fine"`
			Bad  lethe.Secret[any] `lethe:"bad,json"`
		}](".Bad:", "cannot be sealed"),
		"Secret of a function": refusesTags[struct {
			Keys lethe.Keys           `lethe:"rows"`
			ID   string               `lethe:"subject=user"`
			Fine secretText           `lethe:"fine"`
			Bad  lethe.Secret[func()] `lethe:"bad"`
		}](".Bad:", "func() cannot be sealed"),
		"Secret of a complex number": refusesTags[struct {
			Keys lethe.Keys               `lethe:"rows"`
			ID   string                   `lethe:"subject=user"`
			Fine secretText               `lethe:"fine"`
			Bad  lethe.Secret[complex128] `lethe:"bad"`
		}](".Bad:", "complex128 cannot be sealed"),
		"slice of Secrets": refusesTags[struct {
			Keys lethe.Keys   `lethe:"rows"`
			ID   string       `lethe:"subject=user"`
			Fine secretText   `lethe:"fine"`
			Bad  []secretText `lethe:"bad"`
		}](".Bad:", "lethe.Secret[string] inside a slice"),
		"slice of Secrets without a tag": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  []secretText
		}](".Bad:", "lethe.Secret[string] inside a slice"),
		"slice of structs with Secrets": refusesTags[struct {
			Keys lethe.Keys   `lethe:"rows"`
			ID   string       `lethe:"subject=user"`
			Fine secretText   `lethe:"fine"`
			Bad  []homeTagged `lethe:"bad"`
		}](".Bad:", "inside a slice"),
		"array of Secrets": refusesTags[struct {
			Keys lethe.Keys    `lethe:"rows"`
			ID   string        `lethe:"subject=user"`
			Fine secretText    `lethe:"fine"`
			Bad  [2]secretText `lethe:"bad"`
		}](".Bad:", "inside a array"),
		"map of Secrets": refusesTags[struct {
			Keys lethe.Keys            `lethe:"rows"`
			ID   string                `lethe:"subject=user"`
			Fine secretText            `lethe:"fine"`
			Bad  map[string]secretText `lethe:"bad"`
		}](".Bad:", "lethe.Secret[string] inside a map"),
		"map of pointers to structs with Secrets": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  map[int]*homeTagged
		}](".Bad:", "lethe.Secret[string] inside a map"),
		"channel of Secrets": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  chan secretText
		}](".Bad:", "lethe.Secret[string] inside a chan"),
		"pointer to a pointer": refusesTags[struct {
			Keys lethe.Keys   `lethe:"rows"`
			ID   string       `lethe:"subject=user"`
			Fine secretText   `lethe:"fine"`
			Bad  **homeTagged `lethe:"bad"`
		}](".Bad:", "inside a ptr"),

		"nested without a name": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  homeTagged
		}](".Bad:", "needs a stable name", `lethe:"bad"`),
		"nested pointer without a name": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  *homeTagged
		}](".Bad:", "needs a stable name"),
		"nested with options": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  homeTagged `lethe:"bad,purpose=p"`
		}](".Bad:", "takes a name and no options"),
		"nested struct with nothing to seal": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  homeClear  `lethe:"bad"`
		}](".Bad:", "cannot be sealed in place"),
		"a mistake deep inside": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Home struct {
				Work *struct {
					Bad secretText `lethe:"bad,nothing"`
				} `lethe:"work"`
			} `lethe:"home"`
		}](".Home.Work.Bad:", "nothing"),
		"type that contains itself": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Bad  loopTagged `lethe:"bad"`
		}](".Bad.Next:", "contains itself"),
		"tags inside a clear struct": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  struct {
				Who string `lethe:"subject=user"`
			}
		}](".Bad:", "would do nothing here"),

		"JSON without saying so": refusesTags[struct {
			Keys lethe.Keys          `lethe:"rows"`
			ID   string              `lethe:"subject=user"`
			Fine secretText          `lethe:"fine"`
			Bad  lethe.Secret[point] `lethe:"bad"`
		}](".Bad:", "option json", "point"),
		"JSON of a map without saying so": refusesTags[struct {
			Keys lethe.Keys                      `lethe:"rows"`
			ID   string                          `lethe:"subject=user"`
			Fine secretText                      `lethe:"fine"`
			Bad  lethe.Secret[map[string]string] `lethe:"bad"`
		}](".Bad:", "option json"),
		"JSON for nothing": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:"bad,json"`
		}](".Bad:", "option json does nothing for string"),
		"JSON for raw JSON": refusesTags[struct {
			Keys lethe.Keys                    `lethe:"rows"`
			ID   string                        `lethe:"subject=user"`
			Fine secretText                    `lethe:"fine"`
			Bad  lethe.Secret[json.RawMessage] `lethe:"bad,json"`
		}](".Bad:", "option json does nothing"),

		"unknown mask": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:"bad,mask=half"`
		}](".Bad:", `unknown mask "half"`, "email, full, iban, initials, last4, phone, year"),
		"mask of a time": refusesTags[struct {
			Keys lethe.Keys              `lethe:"rows"`
			ID   string                  `lethe:"subject=user"`
			Fine secretText              `lethe:"fine"`
			Bad  lethe.Secret[time.Time] `lethe:"bad,mask=email"`
		}](".Bad:", "mask=email does not apply to time.Time"),
		"mask of a number": refusesTags[struct {
			Keys lethe.Keys        `lethe:"rows"`
			ID   string            `lethe:"subject=user"`
			Fine secretText        `lethe:"fine"`
			Bad  lethe.Secret[int] `lethe:"bad,mask=phone"`
		}](".Bad:", "mask=phone does not apply to int"),
		"mask of JSON": refusesTags[struct {
			Keys lethe.Keys          `lethe:"rows"`
			ID   string              `lethe:"subject=user"`
			Fine secretText          `lethe:"fine"`
			Bad  lethe.Secret[point] `lethe:"bad,json,mask=last4"`
		}](".Bad:", "mask=last4 does not apply"),

		"of= missing": refusesTags[struct {
			Keys lethe.Keys       `lethe:"rows"`
			ID   string           `lethe:"subject=user"`
			Fine secretText       `lethe:"fine"`
			Bad  lethe.BlindIndex `lethe:"bad,norm=exact/1"`
		}](".Bad:", "needs of="),
		"norm= missing": refusesTags[struct {
			Keys lethe.Keys       `lethe:"rows"`
			ID   string           `lethe:"subject=user"`
			Fine secretText       `lethe:"fine"`
			Bad  lethe.BlindIndex `lethe:"bad,of=fine"`
		}](".Bad:", "norm=", "digits/1, email/1, exact/1, name/1, phone/1"),
		"of= nothing": refusesTags[struct {
			Keys lethe.Keys       `lethe:"rows"`
			ID   string           `lethe:"subject=user"`
			Fine secretText       `lethe:"fine"`
			Bad  lethe.BlindIndex `lethe:"bad,of=nobody,norm=exact/1"`
		}](".Bad:", "of=nobody names no Secret"),
		"of= by Go name": refusesTags[struct {
			Keys lethe.Keys       `lethe:"rows"`
			ID   string           `lethe:"subject=user"`
			Fine secretText       `lethe:"fine"`
			Bad  lethe.BlindIndex `lethe:"bad,of=Fine,norm=exact/1"`
		}](".Bad:", "of=Fine names no Secret"),
		"of= another index": refusesTags[struct {
			Keys lethe.Keys       `lethe:"rows"`
			ID   string           `lethe:"subject=user"`
			Fine secretText       `lethe:"fine"`
			Good lethe.BlindIndex `lethe:"good,of=fine,norm=exact/1"`
			Bad  lethe.BlindIndex `lethe:"bad,of=good,norm=exact/1"`
		}](".Bad:", "of=good names no Secret"),
		"of= a plain field": refusesTags[struct {
			Keys lethe.Keys       `lethe:"rows"`
			ID   string           `lethe:"subject=user"`
			Fine secretText       `lethe:"fine"`
			Bad  lethe.BlindIndex `lethe:"bad,of=ID,norm=exact/1"`
		}](".Bad:", "of=ID names no Secret"),
		"unknown normaliser": refusesTags[struct {
			Keys lethe.Keys       `lethe:"rows"`
			ID   string           `lethe:"subject=user"`
			Fine secretText       `lethe:"fine"`
			Bad  lethe.BlindIndex `lethe:"bad,of=fine,norm=email/2"`
		}](".Bad:", `unknown normaliser "email/2"`, "email/1"),
		"normaliser without a version": refusesTags[struct {
			Keys lethe.Keys       `lethe:"rows"`
			ID   string           `lethe:"subject=user"`
			Fine secretText       `lethe:"fine"`
			Bad  lethe.BlindIndex `lethe:"bad,of=fine,norm=email"`
		}](".Bad:", `unknown normaliser "email"`),
		"too few bits": refusesTags[struct {
			Keys lethe.Keys       `lethe:"rows"`
			ID   string           `lethe:"subject=user"`
			Fine secretText       `lethe:"fine"`
			Bad  lethe.BlindIndex `lethe:"bad,of=fine,norm=exact/1,bits=7"`
		}](".Bad:", "bits=7 is not a number from 8 to 256"),
		"too many bits": refusesTags[struct {
			Keys lethe.Keys       `lethe:"rows"`
			ID   string           `lethe:"subject=user"`
			Fine secretText       `lethe:"fine"`
			Bad  lethe.BlindIndex `lethe:"bad,of=fine,norm=exact/1,bits=257"`
		}](".Bad:", "bits=257"),
		"no bits": refusesTags[struct {
			Keys lethe.Keys       `lethe:"rows"`
			ID   string           `lethe:"subject=user"`
			Fine secretText       `lethe:"fine"`
			Bad  lethe.BlindIndex `lethe:"bad,of=fine,norm=exact/1,bits=0"`
		}](".Bad:", "bits=0"),
		"bits in words": refusesTags[struct {
			Keys lethe.Keys       `lethe:"rows"`
			ID   string           `lethe:"subject=user"`
			Fine secretText       `lethe:"fine"`
			Bad  lethe.BlindIndex `lethe:"bad,of=fine,norm=exact/1,bits=many"`
		}](".Bad:", "bits=many"),
		"index over a time": refusesTags[struct {
			Keys lethe.Keys              `lethe:"rows"`
			ID   string                  `lethe:"subject=user"`
			Fine lethe.Secret[time.Time] `lethe:"fine"`
			Bad  lethe.BlindIndex        `lethe:"bad,of=fine,norm=exact/1"`
		}](".Bad:", "time values have no single spelling"),
		"index over a float": refusesTags[struct {
			Keys lethe.Keys            `lethe:"rows"`
			ID   string                `lethe:"subject=user"`
			Fine lethe.Secret[float32] `lethe:"fine"`
			Bad  lethe.BlindIndex      `lethe:"bad,of=fine,norm=exact/1"`
		}](".Bad:", "float values have no single spelling"),
		"index over JSON": refusesTags[struct {
			Keys lethe.Keys          `lethe:"rows"`
			ID   string              `lethe:"subject=user"`
			Fine lethe.Secret[point] `lethe:"fine,json"`
			Bad  lethe.BlindIndex    `lethe:"bad,of=fine,norm=exact/1"`
		}](".Bad:", "JSON values have no single spelling"),
		"text normaliser over a number": refusesTags[struct {
			Keys lethe.Keys        `lethe:"rows"`
			ID   string            `lethe:"subject=user"`
			Fine lethe.Secret[int] `lethe:"fine"`
			Bad  lethe.BlindIndex  `lethe:"bad,of=fine,norm=digits/1"`
		}](".Bad:", "norm=digits/1 applies to text", "norm=exact/1 for int"),

		"no subject": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"id"`
			Bad  secretText `lethe:"bad"`
		}](".Bad:", "whose is it?", "subject=KIND"),
		"no subject for a group": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  secretText `lethe:"bad,group=sender"`
		}](".Bad:", `group "sender" has no subject`, "group=sender"),
		"unused subject": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Bad  string     `lethe:"subject=user,group=sender"`
			Fine secretText `lethe:"fine"`
		}](".Bad:", "no field belongs to this subject", `"sender"`),
		"two subjects": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Bad  string     `lethe:"subject=customer"`
			Fine secretText `lethe:"fine"`
		}](".Bad:", ".ID already", "group=NAME"),
		"two subjects of a group": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			A    string     `lethe:"subject=user,group=g"`
			Bad  string     `lethe:"subject=user,group=g"`
			Fine secretText `lethe:"fine"`
			Also secretText `lethe:"also,group=g"`
		}](".Bad:", `group "g"`, ".A already"),
		"two ids": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user,id"`
			Bad  string     `lethe:"id"`
			Fine secretText `lethe:"fine"`
		}](".Bad:", "id is on", ".ID already"),
		"two Keys": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			More lethe.Keys `lethe:"more"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
		}]("exactly one lethe.Keys field, has 2"),
		"no Keys": refusesTags[struct {
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
		}]("exactly one lethe.Keys field, has 0"),
		"Keys behind a pointer": refusesTags[struct {
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			More *struct {
				Bad lethe.Keys `lethe:"rows"`
			} `lethe:"more"`
		}](".More.Bad:", "behind a pointer"),
		"nothing to seal": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
		}]("nothing to seal"),
		"an empty struct": reportsTags[struct{}]("nothing to seal", "exactly one lethe.Keys"),
		"more scopes than a header has": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			A    secretText `lethe:"a,purpose=1"`
			B    secretText `lethe:"b,purpose=2"`
			C    secretText `lethe:"c,purpose=3"`
			D    secretText `lethe:"d,purpose=4"`
			E    secretText `lethe:"e,purpose=5"`
			F    secretText `lethe:"f,purpose=6"`
			G    secretText `lethe:"g,purpose=7"`
			H    secretText `lethe:"h,purpose=8"`
			I    secretText `lethe:"i,purpose=9"`
			J    secretText `lethe:"j,purpose=10"`
			K    secretText `lethe:"k,purpose=11"`
			L    secretText `lethe:"l,purpose=12"`
			M    secretText `lethe:"m,purpose=13"`
			N    secretText `lethe:"n,purpose=14"`
			O    secretText `lethe:"o,purpose=15"`
			P    secretText `lethe:"p,purpose=16"`
		}]("16 pairs of group and purpose, at most 15"),

		"subject of a float": reportsTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			Bad  float64    `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
		}](".Bad:", "float64 cannot name a subject or row"),
		"subject of a bool": reportsTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			Bad  bool       `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
		}](".Bad:", "bool cannot name"),
		"id of a pointer": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Bad  *string    `lethe:"id"`
			Fine secretText `lethe:"fine"`
		}](".Bad:", "*string cannot name"),
		"id of a pointer with MarshalText": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Bad  *badText   `lethe:"id"`
			Fine secretText `lethe:"fine"`
		}](".Bad:", "cannot name"),
		"id of bytes": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Bad  []byte     `lethe:"id"`
			Fine secretText `lethe:"fine"`
		}](".Bad:", "[]uint8 cannot name"),
		"id of a short array": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Bad  [15]byte   `lethe:"id"`
			Fine secretText `lethe:"fine"`
		}](".Bad:", "[15]uint8 cannot name"),
		"id of a struct": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Bad  point      `lethe:"id"`
			Fine secretText `lethe:"fine"`
		}](".Bad:", "cannot name"),

		"name taken": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"same"`
			Bad  secretText `lethe:"same"`
		}](".Bad:", `"same" is taken`),
		"a struct that embeds a Secret, without a name for it": refusesTags[struct {
			Keys lethe.Keys  `lethe:"rows"`
			ID   string      `lethe:"subject=user"`
			Fine secretText  `lethe:"fine"`
			Bad  wrappedText `lethe:"bad"`
		}](".Bad.Secret:", "needs a tag with a stable name"),
		"a struct that embeds a pointer to a Secret": refusesTags[struct {
			Keys lethe.Keys  `lethe:"rows"`
			ID   string      `lethe:"subject=user"`
			Fine secretText  `lethe:"fine"`
			Bad  pointedText `lethe:"bad"`
		}](".Bad.Secret:", "a pointer to lethe.Secret[string] cannot be sealed in place"),
		"a type defined as a Secret": refusesTags[struct {
			Keys lethe.Keys  `lethe:"rows"`
			ID   string      `lethe:"subject=user"`
			Fine secretText  `lethe:"fine"`
			Bad  definedText `lethe:"bad"`
		}](".Bad:", "lethe_test.definedText is defined as a lethe.Secret", "use lethe.Secret itself"),
		"a type defined as a Secret, untagged": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  definedText
		}](".Bad:", "lethe_test.definedText is defined as a lethe.Secret"),
		"a list of a type defined as a Secret": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"fine"`
			Bad  []definedText
		}](".Bad:", "lethe_test.definedText inside a slice is out of reach"),
		"a Secret of a Secret": refusesTags[struct {
			Keys lethe.Keys               `lethe:"rows"`
			ID   string                   `lethe:"subject=user"`
			Fine secretText               `lethe:"fine"`
			Bad  lethe.Secret[secretText] `lethe:"bad"`
		}](".Bad:", "lethe.Secret[string] inside a Secret would be sealed twice"),
		"a Secret that holds a Secret": refusesTags[struct {
			Keys lethe.Keys                 `lethe:"rows"`
			ID   string                     `lethe:"subject=user"`
			Fine secretText                 `lethe:"fine"`
			Bad  lethe.Secret[[]homeTagged] `lethe:"bad,json"`
		}](".Bad:", "lethe.Secret[string] inside a Secret would be sealed twice"),
		"name of an index taken": refusesTags[struct {
			Keys lethe.Keys       `lethe:"rows"`
			ID   string           `lethe:"subject=user"`
			Fine secretText       `lethe:"same"`
			Bad  lethe.BlindIndex `lethe:"same,of=other,norm=exact/1"`
			Else secretText       `lethe:"other"`
		}](".Bad:", `"same" is taken`),
		"dotted name taken": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"home.street"`
			Home homeTagged `lethe:"home"`
		}](".Home.Street:", `"home.street" is taken`),
		"nested name taken": refusesTags[struct {
			Keys lethe.Keys  `lethe:"rows"`
			ID   string      `lethe:"subject=user"`
			Home homeTagged  `lethe:"home"`
			Bad  *homeTagged `lethe:"home"`
		}](".Bad.Street:", `"home.street" is taken`),
		"embedded name taken": refusesTags[struct {
			Keys lethe.Keys `lethe:"rows"`
			ID   string     `lethe:"subject=user"`
			Fine secretText `lethe:"base"`
			OpenBase
		}](".OpenBase.Base:", `"base" is taken`),
	}
	for name, check := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, ring)
		})
	}
}

func TestForReportsAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	type wrong struct {
		Keys  lethe.Keys
		ID    float64          `lethe:"subject=user"`
		Email secretText       `lethe:"email,colour=red,mask=half,token=card"`
		Index lethe.BlindIndex `lethe:"email_idx,of=mail,norm=exact/1,bits=4"`
		List  []secretText     `lethe:"list"`
		Point lethe.Secret[point]
		Fine  secretText `lethe:"fine"`
	}
	got := forMistakes[wrong](t, envelopetest.NewKeyring(t))
	require.True(t, strings.HasPrefix(got, "lethe: the tags of lethe_test.wrong are wrong:\n"), got)
	for _, want := range []string{
		"wrong.Keys: ", "wrong.ID: float64", `wrong.Email: unknown option "colour"`, `unknown mask "half"`, `"token" belongs on a field of type lethe.Token`,
		"wrong.Index: bits=4", "wrong.List: ", "wrong.Point: ", "wrong.Fine: whose is it?",
	} {
		require.Contains(t, got, want)
	}
}

func TestForTakesGoodTags(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	type row struct {
		Keys   lethe.Keys              `lethe:" rows "`
		ID     [16]byte                `lethe:"subject=user , id"`
		Sender int64                   `lethe:"subject=user,group=sender"`
		Plain  secretText              `lethe:"plain"`
		All    secretText              `lethe:"all , mask = email , purpose = news , group = sender"`
		When   lethe.Secret[time.Time] `lethe:"when,mask=year"`
		Full   lethe.Secret[bool]      `lethe:"full,mask=full"`
		Doc    lethe.Secret[point]     `lethe:"doc,json,mask=full"`
		Card   lethe.Secret[uint64]    `lethe:"card,mask=last4"`
		CardX  lethe.BlindIndex        `lethe:"card_idx,of=card,norm=exact/1"`
		Least  lethe.BlindIndex        `lethe:"least,of=plain,norm=name/1,bits=8"`
		Most   lethe.BlindIndex        `lethe:"most,of=plain,norm=phone/1,bits=256"`
		Home   homeTagged              `lethe:"home"`
		Work   *homeTagged             `lethe:"work"`
		HomeX  lethe.BlindIndex        `lethe:"home_idx,of=home.street,norm=exact/1"`
		Clear  homeClear
		Left   string `json:"left"`
		right  string
		OpenBase
		hiddenMore
	}
	s, err := lethe.For[row](ring)
	require.NoError(t, err)
	r := row{ID: [16]byte{1}, Sender: 7, Plain: lethe.Of("p"), Work: &homeTagged{Street: lethe.Of("w")}, right: "r"}
	r.Base, r.More = lethe.Of("b"), lethe.Of("m")
	require.NoError(t, s.Seal(t.Context(), &r))
	require.Equal(t, lethe.StatusSealed, r.Work.Street.Status())
	require.Equal(t, lethe.StatusSealed, r.Base.Status())
	require.Equal(t, lethe.StatusSealed, r.More.Status(), "an embedded struct need not be exported")
	require.Len(t, r.Least.Bytes(), 2+1)
	require.Len(t, r.Most.Bytes(), 2+32)
	require.NoError(t, s.Open(t.Context(), &r, lethe.Fields("work.street", "base", "more")))
	require.Equal(t, "w", reveal(t, r.Work.Street))
	require.Equal(t, lethe.StatusSealed, r.Plain.Status())
	_, err = lethe.For[row](ring, lethe.Options{})
	require.NoError(t, err)
}

type hiddenMore struct {
	More secretText `lethe:"more"`
}

func TestForWithoutAStructOrARing(t *testing.T) {
	t.Parallel()
	ring := envelopetest.NewKeyring(t)
	require.Contains(t, forMistakes[string](t, ring), "needs a struct type, not string")
	require.Contains(t, forMistakes[*person](t, ring), "needs a struct type, not *lethe_test.person")
	require.Contains(t, forMistakes[[]person](t, ring), "needs a struct type")
	require.Contains(t, forMistakes[any](t, ring), "needs a struct type")
	require.Contains(t, forMistakes[map[string]person](t, ring), "needs a struct type")
	require.Contains(t, forMistakes[person](t, nil), "NewKeyring")
	_, err := lethe.For[person](ring, lethe.Options{}, lethe.Options{})
	require.ErrorContains(t, err, "one Options at most")
}
