// Package lethe seals the struct fields you tag, keeps a key per person, and
// can forget a person.
//
// A struct declares a [Keys] field, which holds the row's wrapped data keys;
// says whose data it is with a subject tag; and makes every sensitive field a
// [Secret]. [For] checks all tags once and returns a [Sealer], which seals and
// opens whole rows and is the only part that needs keys:
//
//	type Customer struct {
//		Keys     lethe.Keys           `lethe:"customers"`
//		ID       string               `lethe:"subject=customer"`
//		Email    lethe.Secret[string] `lethe:"email,mask=email"`
//		EmailIdx lethe.BlindIndex     `lethe:"email_idx,of=email,norm=email/1,bits=32"`
//		Plan     string
//	}
//
// The codecs of Keys, Secret and BlindIndex (database/sql, JSON, text, gob, XML)
// only move bytes. They refuse a value that was not sealed, so that none can be
// written by mistake, and printing one never shows it.
//
// Select the Keys column whenever you select a sealed one. A row without Keys is
// a new row to Seal: saving it over an old one would replace the keys of the
// columns that were not written. Guard updates with the keys you read:
//
//	UPDATE customers SET email = $1, email_idx = $2 WHERE id = $3 AND sealed_keys = $4
//
// # Tags
//
// On Keys, Secret and BlindIndex the tag starts with a stable name, which is
// authenticated: renaming the Go field does not orphan data, changing the name
// does. Options follow, separated by commas:
//
//	Secret      group=G purpose=P mask=M json
//	BlindIndex  of=FIELD norm=N bits=B
//	Token       token=TOKENIZER group=G mask=M
//
// A [Token]'s column holds a token of the value, made by a tokenizer of package
// tokenize that Options names.
//
// A plain field carries a role: version=FIELD beside a Token; plain=FIELD on the
// plaintext column that a [Migration] leaves beside a Secret; subject=KIND, or subject=KIND,group=G for the
// fields of group G; id for the row's identity, which is then bound to the
// row's keys; or both (subject=customer,id). Structs nested by value or by
// pointer take a name, which prefixes theirs with a dot; embedded structs
// without a tag add no prefix.
//
// Masks: email, phone, last4, initials, year, iban, full. Normalisers: exact/1,
// email/1, phone/1, name/1, digits/1.
//
// # Concurrency
//
// A Sealer is safe for concurrent use. A row is not: like any struct it belongs
// to one goroutine at a time. Copies of a Secret are independent.
package lethe
