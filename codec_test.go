package lethe

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type (
	namedString string
	namedBytes  []byte
	byteLike    byte
	likeBytes   []byteLike
	namedBool   bool
	namedInt    int8
	namedFloat  float32
	namedTime   time.Time
	uuid        [16]byte
	person      struct {
		Name  string            `json:"name"`
		Tags  []string          `json:"tags,omitempty"`
		Inner map[string]person `json:"inner,omitempty"`
	}
	stamped struct{ time.Time } // takes over MarshalBinary
)

func (u uuid) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]), nil
}

func (u *uuid) UnmarshalText(text []byte) error {
	n, err := fmt.Sscanf(strings.ReplaceAll(string(text), "-", ""), "%32x", (*hex16)(u))
	if err == nil && n != 1 {
		err = errors.New("no uuid")
	}
	return err
}

type hex16 [16]byte

func (h *hex16) Scan(state fmt.ScanState, _ rune) error {
	for i := range h {
		var digits [2]rune
		for j := range digits {
			r, _, err := state.ReadRune()
			if err != nil {
				return err
			}
			digits[j] = r
		}
		if _, err := fmt.Sscanf(string(digits[:]), "%02x", &h[i]); err != nil {
			return err
		}
	}
	return nil
}

// requireRoundTrip encodes and decodes a value and returns what came back.
func requireRoundTrip[T any](t *testing.T, want uint8, v T) T {
	t.Helper()
	codec, b, err := encodeValue(&v)
	require.NoError(t, err, "%T %v", v, v)
	require.Equal(t, codecName(want), codecName(codec), "%T", v)
	require.Equal(t, want, codecOf(reflect.TypeFor[T]()), "For and Of choose the same codec")
	back, err := decodeValue[T](codec, b)
	require.NoError(t, err, "%T %v", v, v)
	_, again, err := encodeValue(&back)
	require.NoError(t, err)
	require.Equal(t, b, again, "%T %v", v, v)
	require.Equal(t, reveals[T](t, Of(v)), reveals[T](t, Of(back)))
	return back
}

func reveals[T any](t *testing.T, s Secret[T]) []byte {
	t.Helper()
	v, err := s.Reveal()
	require.NoError(t, err)
	_, b, err := encodeValue(&v)
	require.NoError(t, err)
	return b
}

func requireSame[T any](t *testing.T, codec uint8, values ...T) {
	t.Helper()
	for _, v := range values {
		require.Equal(t, v, requireRoundTrip(t, codec, v))
	}
}

func TestCodecsRoundTrip(t *testing.T) {
	t.Parallel()
	requireSame(t, codecBytes, "", "text", "\x00", "\xff\xfe", "日本語 🎉", strings.Repeat("x", 1<<16))
	requireSame(t, codecBytes, namedString(""), namedString("named"), namedString("\xff"))
	requireSame(t, codecBytes, []byte{}, []byte{0}, []byte("bytes\xff"))
	requireSame(t, codecBytes, namedBytes{}, namedBytes("named"))
	requireSame(t, codecBytes, likeBytes{}, likeBytes{1, 2, 255})
	requireSame(t, codecBytes, json.RawMessage(`{"a": 1}`), json.RawMessage(`not JSON`))
	requireSame(t, codecBool, true, false)
	requireSame(t, codecBool, namedBool(true), namedBool(false))
	requireSame(t, codecInt, 0, 1, -1, math.MaxInt, math.MinInt)
	requireSame(t, codecInt, int8(math.MinInt8), int8(math.MaxInt8), -1)
	requireSame(t, codecInt, int16(math.MinInt16), int16(math.MaxInt16))
	requireSame(t, codecInt, int32(math.MinInt32), int32(math.MaxInt32))
	requireSame(t, codecInt, int64(math.MinInt64), int64(math.MaxInt64))
	requireSame(t, codecInt, namedInt(-128), namedInt(127))
	requireSame(t, codecInt, time.Duration(math.MinInt64), time.Hour)
	requireSame(t, codecUint, uint(0), uint(math.MaxUint))
	requireSame(t, codecUint, uint8(0), uint8(math.MaxUint8))
	requireSame(t, codecUint, uint16(math.MaxUint16))
	requireSame(t, codecUint, uint32(math.MaxUint32))
	requireSame(t, codecUint, uint64(math.MaxUint64))
	requireSame(t, codecBinary, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1%eth0"), netip.Addr{})
	requireSame(t, codecBinary, netip.MustParsePrefix("2001:db8::/32"))
	requireSame(t, codecText, net.ParseIP("192.0.2.1"), net.IP(nil))
	requireSame(t, codecText, uuid{}, uuid{0: 1, 15: 0xff})
	requireSame(t, codecJSON, person{}, person{Name: "Ada", Tags: []string{"a", "\u2028<>&"}, Inner: map[string]person{"x": {Name: "Bob"}}})
	requireSame(t, codecJSON, map[string]int{}, map[string]int{"a": 1, "b": 2}, nil)
	requireSame(t, codecJSON, []string{}, []string{"a", ""}, nil)
	requireSame(t, codecJSON, [16]byte{1, 2}, [16]byte{})
	requireSame(t, codecJSON, [3]int{1, 2, 3})

	n, ok := new(big.Int).SetString("-123456789012345678901234567890", 10)
	require.True(t, ok)
	back := requireRoundTrip(t, codecText, *n)
	require.Zero(t, n.Cmp(&back))
	back = requireRoundTrip(t, codecText, big.Int{})
	require.Zero(t, back.Sign())

	u, err := url.Parse("https://example.com/a?b=c#d")
	require.NoError(t, err)
	requireSame(t, codecBinary, *u)
}

func TestFloatsKeepTheirBits(t *testing.T) {
	t.Parallel()
	for _, bits := range []uint64{
		0, 1 << 63, math.Float64bits(math.Inf(1)), math.Float64bits(math.Inf(-1)), math.Float64bits(math.NaN()),
		0x7ff8_0000_dead_beef, 0xfff8_0000_0000_0001, 1, math.Float64bits(math.MaxFloat64), math.Float64bits(0.1),
	} {
		f := math.Float64frombits(bits)
		require.Equal(t, bits, math.Float64bits(requireRoundTrip(t, codecFloat, f)), "%x", bits)
	}
	for _, bits := range []uint32{
		0, 1 << 31, math.Float32bits(float32(math.Inf(1))), math.Float32bits(float32(math.Inf(-1))), 0x7fc0_0000, 0xffc0_beef,
		1, math.Float32bits(math.MaxFloat32), math.Float32bits(0.1),
	} {
		f := math.Float32frombits(bits)
		require.Equal(t, bits, math.Float32bits(requireRoundTrip(t, codecFloat, f)), "%x", bits)
		require.Equal(t, bits, math.Float32bits(float32(requireRoundTrip(t, codecFloat, namedFloat(f)))), "%x", bits)
	}
}

func TestTimesKeepInstantAndOffset(t *testing.T) {
	t.Parallel()
	berlin := time.FixedZone("", 2*3600)
	for _, want := range []time.Time{
		{},
		time.Unix(0, 0).UTC(),
		time.Date(2024, 2, 29, 23, 59, 59, 999_999_999, time.UTC),
		time.Date(2024, 6, 1, 12, 0, 0, 1, berlin),
		time.Date(1883, 11, 18, 12, 3, 58, 0, time.FixedZone("", -(4*3600+56*60+2))),
		time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(-400, 1, 1, 0, 0, 0, 0, berlin),
		time.Date(292_000_000_000, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", 14*3600)),
	} {
		got := requireRoundTrip(t, codecTime, want)
		require.True(t, want.Equal(got), "%v became %v", want, got)
		require.Equal(t, want.Format(time.RFC3339Nano), got.Format(time.RFC3339Nano))
		require.Equal(t, want.Format(time.RFC3339Nano), time.Time(requireRoundTrip(t, codecTime, namedTime(want))).Format(time.RFC3339Nano),
			"a type based on time.Time, which encoding/json sees as empty")
	}
	now := time.Now()
	require.Contains(t, now.String(), "m=", "the clock reading is there before")
	require.NotContains(t, requireRoundTrip(t, codecTime, now).String(), "m=")
	require.True(t, now.Equal(requireRoundTrip(t, codecTime, now)))
	winter := requireRoundTrip(t, codecTime, time.Date(2024, 1, 1, 0, 0, 0, 0, time.FixedZone("GMT", 0)))
	require.Equal(t, time.UTC, winter.Location(), "an offset of nought is UTC")
	requireRoundTrip(t, codecBinary, stamped{now.Round(0)})
}

func TestEncodingsAreWhatTheFormatSays(t *testing.T) {
	t.Parallel()
	encoded := func(codec uint8, b []byte, err error) string {
		require.NoError(t, err)
		return fmt.Sprintf("%d %x", codec, b)
	}
	text, minus, large, yes, no, half := "aé", -2, uint16(0x1234), true, false, 0.5
	at := time.Date(1969, 12, 31, 23, 59, 59, 5, time.FixedZone("", -3600))
	list := []int{1}
	require.Equal(t, "1 61c3a9", encoded(encodeValue(&text)))
	require.Equal(t, "2 fffffffffffffffe", encoded(encodeValue(&minus)))
	require.Equal(t, "3 0000000000001234", encoded(encodeValue(&large)))
	require.Equal(t, "4 3fe0000000000000", encoded(encodeValue(&half)))
	require.Equal(t, "5 01", encoded(encodeValue(&yes)))
	require.Equal(t, "5 00", encoded(encodeValue(&no)))
	require.Equal(t, "6 0000000000000e0f00000005fffff1f0", encoded(encodeValue(&at)))
	require.Equal(t, "9 5b315d", encoded(encodeValue(&list)))
}

func TestATypeThatShrankIsRefused(t *testing.T) {
	t.Parallel()
	int64s := func(v int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)) }
	requireRefused[int8](t, codecInt, int64s(128))
	requireRefused[int8](t, codecInt, int64s(-129))
	requireRefused[int16](t, codecInt, int64s(math.MaxInt16+1))
	requireRefused[int32](t, codecInt, int64s(math.MinInt32-1))
	requireRefused[uint8](t, codecUint, int64s(256))
	requireRefused[uint32](t, codecUint, int64s(-1))
	requireRefused[float32](t, codecFloat, int64s(int64(math.Float64bits(math.MaxFloat64))))
	requireRefused[float32](t, codecFloat, int64s(int64(math.Float64bits(0.1))))
	for _, short := range [][]byte{{}, {1}, make([]byte, 7), make([]byte, 9)} {
		requireRefused[int](t, codecInt, short)
		requireRefused[uint](t, codecUint, short)
		requireRefused[float64](t, codecFloat, short)
		requireRefused[time.Time](t, codecTime, short)
	}
	requireRefused[bool](t, codecBool, []byte{})
	requireRefused[bool](t, codecBool, []byte{2})
	requireRefused[bool](t, codecBool, []byte{1, 1})
	requireRefused[time.Time](t, codecTime, append(int64s(0), 0x3b, 0x9a, 0xca, 0, 0, 0, 0, 0)) // a billion nanoseconds
	v, err := decodeValue[int8](codecInt, int64s(-128))
	require.NoError(t, err)
	require.Equal(t, int8(-128), v)
}

// requireRefused also checks that nothing of the value comes back.
func requireRefused[T any](t *testing.T, codec uint8, b []byte) {
	t.Helper()
	v, err := decodeValue[T](codec, b)
	require.ErrorIs(t, err, errNotDecodable, "%T", v)
	require.True(t, reflect.ValueOf(&v).Elem().IsZero(), "%T", v)
}

func TestATypeThatChangedIsRefused(t *testing.T) {
	t.Parallel()
	secrets := map[uint8][]byte{
		codecBytes: []byte("19840607"), codecInt: binary.BigEndian.AppendUint64(nil, 19840607), codecUint: binary.BigEndian.AppendUint64(nil, 19840607),
		codecFloat: binary.BigEndian.AppendUint64(nil, math.Float64bits(19840607)), codecBool: {1}, codecTime: appendTime(nil, time.Unix(19840607, 0)),
		codecText: []byte("192.0.2.77"), codecJSON: []byte(`{"name":"19840607"}`), codecBinary: []byte("1984"),
		0: []byte("19840607"), 10: []byte("19840607"), 15: []byte("19840607"), 255: []byte("19840607"),
	}
	for codec, b := range secrets {
		requireMismatch[string](t, codecBytes, codec, b)
		requireMismatch[[]byte](t, codecBytes, codec, b)
		requireMismatch[int64](t, codecInt, codec, b)
		requireMismatch[uint64](t, codecUint, codec, b)
		requireMismatch[float64](t, codecFloat, codec, b)
		requireMismatch[bool](t, codecBool, codec, b)
		requireMismatch[time.Time](t, codecTime, codec, b)
		requireMismatch[net.IP](t, codecText, codec, b)
		requireMismatch[netip.Addr](t, codecBinary, codec, b)
		requireMismatch[person](t, codecJSON, codec, b)
	}
	_, err := decodeValue[int](codecBytes, []byte("x"))
	require.EqualError(t, err, "lethe: sealed as another type: as bytes, and the field's type int is int")
	_, err = decodeValue[string](12, nil)
	require.ErrorContains(t, err, "codec 12")
}

func requireMismatch[T any](t *testing.T, want, codec uint8, b []byte) {
	t.Helper()
	v, err := decodeValue[T](codec, b)
	if codec == want {
		require.NoError(t, err, "%T", v)
		return
	}
	require.ErrorIs(t, err, errCodecMismatch, "%T", v)
	require.NotContains(t, err.Error(), "19840607")
	require.NotContains(t, err.Error(), "192.0.2.77")
	require.True(t, reflect.ValueOf(&v).Elem().IsZero())
}

func TestTypesWithoutACodec(t *testing.T) {
	t.Parallel()
	requireNoCodec(t, new(string))
	requireNoCodec(t, new(time.Time))
	requireNoCodec[any](t, "x")
	requireNoCodec[error](t, errors.New("x"))
	requireNoCodec(t, func() {})
	requireNoCodec(t, make(chan int))
	requireNoCodec(t, complex(1, 2))
	requireNoCodec(t, uintptr(1))
}

func requireNoCodec[T any](t *testing.T, v T) {
	t.Helper()
	require.Zero(t, codecOf(reflect.TypeFor[T]()))
	s := Of(v)
	_, err := s.Reveal()
	require.ErrorContains(t, err, "cannot be sealed")
	_, err = s.Value()
	require.ErrorIs(t, err, ErrNotSealed)
	require.Equal(t, "[sealed]", s.Masked())
}

const marshalerSecret = "hunter2 from a marshaler"

// rude is a value of which every method fails in one way, and tells all.
type (
	failingText   struct{ V string }
	panickingText struct{ V string }
	failingBinary struct{ V string }
	panickingJSON struct{ V string }
	failingJSON   struct{ V string }
	cyclic        map[string]any
)

func (v failingText) MarshalText() ([]byte, error)     { return []byte(v.V), errors.New(v.V) }
func (v *failingText) UnmarshalText(b []byte) error    { v.V = string(b); return errors.New(string(b)) }
func (v panickingText) MarshalText() ([]byte, error)   { panic(v.V) }
func (v *panickingText) UnmarshalText(b []byte) error  { v.V = string(b); panic(errors.New(v.V)) }
func (v failingBinary) MarshalBinary() ([]byte, error) { return []byte(v.V), fmt.Errorf("no: %q", v.V) }
func (v *failingBinary) UnmarshalBinary(b []byte) error {
	v.V = string(b)
	return errors.New(string(b))
}
func (v panickingJSON) MarshalJSON() ([]byte, error)  { panic(v) }
func (v *panickingJSON) UnmarshalJSON(b []byte) error { v.V = string(b); panic(v) }
func (v failingJSON) MarshalJSON() ([]byte, error)    { return nil, fmt.Errorf("no: %q", v.V) }
func (v *failingJSON) UnmarshalJSON(b []byte) error   { v.V = string(b); return errors.New(string(b)) }

func TestFailingMarshalersAreNotRepeated(t *testing.T) {
	t.Parallel()
	requireNoWord(t, codecText, failingText{marshalerSecret})
	requireNoWord(t, codecText, panickingText{marshalerSecret})
	requireNoWord(t, codecBinary, failingBinary{marshalerSecret})
	requireNoWord(t, codecJSON, panickingJSON{marshalerSecret})
	requireNoWord(t, codecJSON, failingJSON{marshalerSecret})
	requireNoWord(t, codecJSON, []failingText{{marshalerSecret}})
	requireNoWord(t, codecJSON, struct{ F, V any }{func() {}, marshalerSecret})
	loop := cyclic{"v": marshalerSecret}
	loop["loop"] = loop
	codec, b, err := encodeValue(&loop)
	require.Equal(t, uint8(codecJSON), codec)
	require.Nil(t, b)
	require.Equal(t, errNotEncodable, err)
}

func requireNoWord[T any](t *testing.T, codec uint8, v T) {
	t.Helper()
	c, b, err := encodeValue(&v)
	require.Equal(t, codec, c, "%T", v)
	require.Nil(t, b, "%T", v)
	require.Equal(t, errNotEncodable, err, "%T", v)
	s := Of(v)
	_, err = s.Reveal()
	require.Equal(t, errNotEncodable, err, "%T", v)
	require.Equal(t, "[sealed]", s.Masked())
	require.Empty(t, s.s.value.bytes())

	data := []byte(`"` + marshalerSecret + `"`)
	back, err := decodeValue[T](codec, data)
	require.Equal(t, errNotDecodable, err, "%T", v)
	require.True(t, reflect.ValueOf(&back).Elem().IsZero(), "%T", v)

	var in Input[T]
	for _, err := range []error{json.Unmarshal(data, &in), in.UnmarshalText(data)} {
		require.Error(t, err, "%T", v)
		require.NotContains(t, err.Error(), marshalerSecret, "%T", v)
	}
	require.True(t, in.IsZero())
}

func TestUnmarshalersGetABufferOfTheirOwn(t *testing.T) {
	t.Parallel()
	for _, codec := range []uint8{codecText, codecBinary} {
		b := []byte("kept")
		if codec == codecText {
			v, err := decodeValue[greedyText](codec, b)
			require.NoError(t, err)
			clear(v.kept)
		} else {
			v, err := decodeValue[greedyBinary](codec, b)
			require.NoError(t, err)
			clear(v.kept)
		}
		require.Equal(t, "kept", string(b))
	}
	v := greedyText{[]byte("kept")}
	_, b, err := encodeValue(&v)
	require.NoError(t, err)
	clear(v.kept)
	require.Equal(t, "kept", string(b))
}

type (
	greedyText   struct{ kept []byte }
	greedyBinary struct{ kept []byte }
)

func (v greedyText) MarshalText() ([]byte, error)      { return v.kept, nil }
func (v *greedyText) UnmarshalText(b []byte) error     { v.kept = b; return nil }
func (v greedyBinary) MarshalBinary() ([]byte, error)  { return v.kept, nil }
func (v *greedyBinary) UnmarshalBinary(b []byte) error { v.kept = b; return nil }

// FuzzDecode: no bytes make a codec panic, and codecs 1 to 6 have one encoding per value.
func FuzzDecode(f *testing.F) {
	for codec := range uint8(11) {
		for _, seed := range [][]byte{
			nil, {0}, {1}, {2}, []byte("text"), []byte(`{"name":"a","tags":[1]}`), []byte("192.0.2.1"), []byte("null"),
			make([]byte, 8), bytes.Repeat([]byte{0xff}, 8), make([]byte, 16), bytes.Repeat([]byte{0xff}, 16), bytes.Repeat([]byte{0x7f}, 16),
			append(bytes.Repeat([]byte{0x7f}, 8), 0x3b, 0x9a, 0xc9, 0xff, 0x80, 0, 0, 0), {0x7f, 0xf0, 0, 0, 0, 0, 0, 1}, {0x7f, 0xf0, 0, 0, 0x20, 0, 0, 1},
		} {
			f.Add(codec, seed)
		}
	}
	f.Fuzz(func(t *testing.T, codec uint8, b []byte) {
		decodesToItself[string](t, codec, b)
		decodesToItself[namedString](t, codec, b)
		decodesToItself[[]byte](t, codec, b)
		decodesToItself[namedBytes](t, codec, b)
		decodesToItself[int](t, codec, b)
		decodesToItself[int8](t, codec, b)
		decodesToItself[uint64](t, codec, b)
		decodesToItself[uint16](t, codec, b)
		decodesToItself[float64](t, codec, b)
		decodesToItself[float32](t, codec, b)
		decodesToItself[bool](t, codec, b)
		decodesToItself[time.Time](t, codec, b)
		decodesToItself[namedTime](t, codec, b)
		decodesToItself[netip.Addr](t, codec, b)
		decodesToItself[big.Int](t, codec, b)
		decodesToItself[url.URL](t, codec, b)
		decodesToItself[uuid](t, codec, b)
		decodesToItself[person](t, codec, b)
		decodesToItself[map[string]any](t, codec, b)
		decodesToItself[panickingJSON](t, codec, b)
	})
}

func decodesToItself[T any](t *testing.T, codec uint8, b []byte) {
	before := bytes.Clone(b)
	v, err := decodeValue[T](codec, b)
	if !bytes.Equal(before, b) {
		t.Fatalf("%T: decoding changed its input", v)
	}
	if err != nil {
		if !reflect.ValueOf(&v).Elem().IsZero() {
			t.Fatalf("%T: a value beside an error", v)
		}
		return
	}
	if codec > codecTime {
		return
	}
	got, again, err := encodeValue(&v)
	if err != nil || got != codec || !bytes.Equal(again, b) {
		t.Fatalf("%T: codec %d, %x decodes, and encodes as codec %d, %x, %v", v, codec, b, got, again, err)
	}
}
