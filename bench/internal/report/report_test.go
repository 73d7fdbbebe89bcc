package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lethe-go/lethe/bench/internal/model"
	"github.com/lethe-go/lethe/bench/internal/presets"
)

func TestSpan(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0": 0, "never": -1, "850 ns": 850, "1.5 µs": 1500, "12 ms": 12 * time.Millisecond, "59 s": 59 * time.Second, "1 min": time.Minute,
		"2 min 5 s": 125 * time.Second, "1 h": time.Hour, "2 h 30 min": 150 * time.Minute, "1 d": 24 * time.Hour, "8 d 2 h": 194 * time.Hour,
		"30 d": 720 * time.Hour, "2 years": 2 * model.Year, "over 200 years": 1<<63 - 1,
	} {
		require.Equal(t, want, span(d))
	}
}

func TestNumbers(t *testing.T) {
	require.Equal(t, "1,234,567", count(1234567))
	require.Equal(t, "1.5 billion", count(1.5e9))
	require.Equal(t, "0.0134", digits(0.01337))
	require.Equal(t, "12.3", digits(12.34))
	require.Equal(t, "1.24 kB", size(1240))
	require.Equal(t, "$1.05", usd(1.049))
	require.Equal(t, "under $0.01", usd(0.001))
	require.Equal(t, "12.5 %", percent(0.125))
}

// The page stands alone: nothing is fetched, nothing runs, it is well-formed, and a
// service's name is text in it.
func TestHTMLStandsAlone(t *testing.T) {
	r := example(t)
	r.Service.Name = `<script>alert("1")</script>`
	var out bytes.Buffer
	require.NoError(t, r.HTML(&out))
	page := out.String()
	for _, no := range []string{"<script", "src=", "<link", "@import", "url(", "http-equiv"} {
		require.NotContains(t, page, no)
	}
	require.Contains(t, page, "prefers-color-scheme: dark")
	require.Contains(t, page, `name="viewport"`)
	require.Equal(t, 10, strings.Count(page, "<svg "))
	require.NotContains(t, page, "#0101", "a colour of the charts has no variable")
	for _, part := range strings.SplitAfter(page, "</svg>") {
		if from := strings.Index(part, "<svg "); from >= 0 {
			d := xml.NewDecoder(strings.NewReader(part[from:]))
			for {
				_, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
			}
		}
	}
}

func TestJSONReadsBack(t *testing.T) {
	r := example(t)
	var out bytes.Buffer
	require.NoError(t, r.JSON(&out))
	var back Report
	require.NoError(t, json.Unmarshal(out.Bytes(), &back))
	require.Equal(t, r.Advice.Best, back.Advice.Best)
	require.Equal(t, r.Costs.OpenWarm, back.Costs.OpenWarm)
}

func TestTextHasEverything(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, example(t).Text(&out))
	for _, has := range []string{"KMS calls a second", "at the peak", "first second", "quota", "USD a month", "memory for keys", "leaked data key", "2^32", "at rest", "out of every backup", "KEK only", "keys, with rewrap", "full re-seal", "epoch close", "Advice", "What would change it"} {
		require.Contains(t, out.String(), has)
	}
}

// example is a plan for the measured costs that are committed.
func example(t *testing.T) *Report {
	t.Helper()
	data, err := os.ReadFile("../../testdata/measured.json")
	require.NoError(t, err)
	var measured struct{ Costs *model.Costs }
	require.NoError(t, json.Unmarshal(data, &measured))
	const day = 24 * time.Hour
	s := &model.Service{
		Name: "example", Records: 1e6, Subjects: 1e5, Tenants: 10, Fields: 5, RecordBytes: 250, Reads: 90, Writes: 10, Peak: 4, Processes: 5,
		Cache: model.Cache{TTL: 5 * time.Minute, Size: 1e5}, Forgets: 10, Workers: 16, Epoch: day, CloseTime: time.Hour, Window: 7 * day, CryptoPeriod: 2 * model.Year,
		KMS:    model.KMS{Name: "k", Encrypt: model.Dist{P50: 1e7, P99: 5e7}, Decrypt: model.Dist{P50: 1e7, P99: 5e7}, Quota: 1000, Price: 0.03, KeyPrice: 1, Erasable: true},
		Limits: model.Limits{Deadline: 30 * day, QuotaShare: 0.5, OpenP99: time.Second, Cost: 100},
	}
	require.NoError(t, s.Validate())
	return New(s, measured.Costs, presets.Preset{Name: "k"}, []string{"kms-price"})
}
