package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPayments(t *testing.T) {
	var out, progress bytes.Buffer
	dir := t.TempDir()
	require.NoError(t, run(t.Context(), []string{"-n", "4000", "-dir", dir}, &out, &progress))
	for _, want := range []string{
		"tokenized to tokens.csv: 4,000 in", "refused: value does not fit the format: 40", "turned back and compared: 3,960 in",
		"misused: subject forgotten: 1", "misused: token of another tokenizer: 1", "misused: token of another purpose: 1",
		"misused: token of another tenant: 1", "misused: other subject or associated data: 1", "misused: no subject: 1",
		"misused: not a token of this tokenizer: 1", "misused: used up: 1", "misused: expired: 1",
	} {
		require.Contains(t, out.String(), want)
	}
	require.NotContains(t, out.String(), "another error")
	require.Contains(t, progress.String(), "tokenizing: 2,000 of 4,000")
	tokens, err := os.ReadFile(filepath.Join(dir, "tokens.csv"))
	require.NoError(t, err)
	refused, err := os.ReadFile(filepath.Join(dir, "refused.csv"))
	require.NoError(t, err)
	cards, err := os.ReadFile(filepath.Join(dir, "cards.csv"))
	require.NoError(t, err)
	for line := range strings.Lines(string(cards)) {
		if card := strings.TrimSpace(strings.Split(line, ",")[2]); len(card) >= 15 {
			require.NotContains(t, string(tokens)+string(refused)+out.String(), card)
		}
	}
	require.Error(t, run(t.Context(), []string{"-dir", dir}, &out, &progress), "a directory in use")
	require.Error(t, run(t.Context(), []string{"-n", "0"}, &out, &progress))
}
