package lethe

import (
	"context"
	"maps"
	"slices"

	"github.com/lethe-go/lethe/envelope"
	"github.com/lethe-go/lethe/tokenize"
)

// TokenResidue lists the tokens of these tokenizers, by their names in
// [Options].Tokenizers, on the receipt of every forget: those that can no longer
// be turned back, and those made to be joined on, which no forget of a person
// ends. Give it to [envelope.Keyring.AddResidue]. It changes nothing: tokens are
// sealed under the subject's keys, or made with them, and are worth nothing
// without. Rows of random tokens stay in their store until they are deleted.
func TokenResidue(tokenizers map[string]tokenize.Tokenizer) envelope.Residue {
	return tokenResidue(maps.Clone(tokenizers))
}

type tokenResidue map[string]tokenize.Tokenizer

// String says what it is, where an error names it.
func (tokenResidue) String() string { return "tokens" }

// ForgottenPseudonym implements envelope.PseudonymResidue: it need not know whose
// tokens they are.
func (r tokenResidue) ForgottenPseudonym(ctx context.Context, _ envelope.SRef, purpose string, all bool) ([]envelope.Residual, error) {
	return r.Forgotten(ctx, envelope.Subject{}, purpose, all)
}

// Forgotten implements envelope.Residue.
func (r tokenResidue) Forgotten(_ context.Context, _ envelope.Subject, purpose string, all bool) (out []envelope.Residual, err error) {
	for _, name := range slices.Sorted(maps.Keys(r)) {
		described, ok := r[name].(tokenize.Describer)
		if !ok {
			out = append(out, envelope.Residual{Kind: envelope.ResidualSurviving, Name: name, Note: "a tokenizer that does not describe itself: whether its tokens can still be turned back is unknown"})
			continue
		}
		d := described.Describe()
		if !all && d.Purpose != purpose {
			continue
		}
		switch {
		case d.Joinable:
			out = append(out, envelope.Residual{Kind: envelope.ResidualSurviving, Name: name, Note: "tokens that are made with the tenant's key, to be joined on: they cannot be forgotten one person at a time; ForgetTokenKey ends all of them"})
		case d.OneWay:
			out = append(out, envelope.Residual{Kind: envelope.ResidualTokens, Name: name, Note: "pseudonyms stay where they are; none can be made again to compare with them"})
		default:
			out = append(out, envelope.Residual{Kind: envelope.ResidualTokens, Name: name, Note: "tokens stay where they are and can no longer be turned back"})
		}
	}
	return out, nil
}
