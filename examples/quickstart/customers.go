package main

import (
	"time"

	"github.com/lethe-go/lethe"
)

// Customer is a row of the table. What is tagged as a Secret leaves the process
// only sealed.
type Customer struct {
	Keys     lethe.Keys              `lethe:"customers"`        // the row's wrapped data keys
	ID       string                  `lethe:"subject=customer"` // whose data this is
	Name     lethe.Secret[string]    `lethe:"name,mask=initials"`
	Email    lethe.Secret[string]    `lethe:"email,mask=email"`
	EmailIdx lethe.BlindIndex        `lethe:"email_idx,of=email,norm=email/1,bits=32"`
	Phone    lethe.Secret[string]    `lethe:"phone,mask=phone"`
	Card     lethe.Secret[string]    `lethe:"card,mask=last4"`
	IBAN     lethe.Secret[string]    `lethe:"iban,mask=iban"`
	Born     lethe.Secret[time.Time] `lethe:"born,mask=year"`
	Note     lethe.Secret[string]    `lethe:"note,mask=full"`
	Plan     string
}

// customer is p as a row that is not sealed yet.
func (p *person) customer() Customer {
	c := Customer{
		ID:    p.id,
		Name:  lethe.Of(p.name),
		Email: lethe.Of(p.email),
		Phone: lethe.Of(p.phone),
		Card:  lethe.Of(p.card),
		IBAN:  lethe.Of(p.iban),
		Born:  lethe.Null[time.Time](),
		Note:  lethe.Of(p.note),
		Plan:  p.plan,
	}
	if !p.born.IsZero() {
		c.Born = lethe.Of(p.born)
	}
	return c
}

// same reports whether an opened row says what p says.
func (p *person) same(c *Customer) bool {
	want := p.customer()
	return c.ID == p.id && c.Plan == p.plan && c.Born.Equal(want.Born) &&
		c.Name.Equal(want.Name) && c.Email.Equal(want.Email) && c.Phone.Equal(want.Phone) &&
		c.Card.Equal(want.Card) && c.IBAN.Equal(want.IBAN) && c.Note.Equal(want.Note)
}
