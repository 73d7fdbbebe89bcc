package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rivo/uniseg"
	"github.com/stretchr/testify/require"
)

func TestClip(t *testing.T) {
	t.Parallel()
	require.Equal(t, "渡邊 太郎", clip("渡邊 太郎", 9))
	require.Equal(t, "渡邊 …", clip("渡邊 太郎", 7))
	require.Equal(t, "a [31mb c", clip("a\x1b[31mb\nc", 20), "a file must not steer the terminal")
	require.Equal(t, "a b", clip("a\u202eb", 20))
}

func TestScreenIsNoWiderThanItSays(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	s := screen{out: &out}
	s.title(strings.Repeat("x", 10), strings.Repeat("y", 60), 123*time.Millisecond)
	s.row([]int{5, 10}, strings.Repeat("渡", 50), strings.Repeat("क", 50), strings.Repeat("🤷🏽‍♀️", 100))
	for line := range strings.Lines(out.String()) {
		require.LessOrEqual(t, uniseg.StringWidth(line), screenWidth, line)
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1_000: "1,000", 10_000: "10,000", 123_456_789: "123,456,789"} {
		require.Equal(t, want, count(n))
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestScreenKeepsTheFirstWriteError(t *testing.T) {
	t.Parallel()
	var _ io.Writer = brokenPipe{}
	s := screen{out: brokenPipe{}}
	s.row(nil, "x")
	require.ErrorContains(t, s.err, "broken pipe")
}

func TestProgressWithoutTerminal(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := newProgress(&out, "sealing", 2_000)
	for range 20 {
		p.add(100)
	}
	require.Equal(t, "sealing: 500 of 2,000\nsealing: 1,000 of 2,000\nsealing: 1,500 of 2,000\nsealing: 2,000 of 2,000\n", out.String())
}
