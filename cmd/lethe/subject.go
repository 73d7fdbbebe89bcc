package main

import (
	"errors"
	"fmt"

	"github.com/lethe-go/lethe/envelope"
)

// subjectFlags name a subject.
type subjectFlags struct {
	Kind   string `required:"" placeholder:"KIND" help:"Kind of the subject, as the subject tag has it."`
	ID     string `name:"id" placeholder:"ID" help:"Id of the subject. Left out, one line of standard input is read, so that it stands in no shell history."`
	Tenant string `placeholder:"TENANT" help:"Tenant, where there are any."`
}

// read returns the subject. Errors do not say who it is.
func (s *subjectFlags) read(a *app) (envelope.Subject, error) {
	id := s.ID
	if id == "" {
		if a.interactive() {
			_, _ = fmt.Fprintf(a.stderr, "id of the %s: ", s.Kind)
		}
		var err error
		if id, err = a.line(); err != nil {
			return envelope.Subject{}, fmt.Errorf("the subject's id: %w", err)
		}
		if id == "" {
			return envelope.Subject{}, errors.New("the subject's id is empty")
		}
	}
	out := envelope.Subject{Tenant: s.Tenant, Kind: s.Kind, ID: id}
	return out, out.Validate()
}
