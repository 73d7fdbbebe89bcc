package lethe

import (
	"encoding"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"sync"
	"time"
)

// Codecs: how a cell's plaintext encodes a value (envelope/FORMAT.md). The number is authenticated.
const (
	codecBytes  = 1 // string and []byte, as they are
	codecInt    = 2 // 8 bytes, big-endian, two's complement
	codecUint   = 3 // 8 bytes, big-endian
	codecFloat  = 4 // 8 bytes, IEEE 754 bits, big-endian
	codecBool   = 5 // 1 byte, 0 or 1
	codecTime   = 6 // Unix seconds (8 bytes), nanoseconds (4), zone offset in seconds (4), big-endian
	codecBinary = 7 // encoding.BinaryMarshaler
	codecText   = 8 // encoding.TextMarshaler
	codecJSON   = 9 // encoding/json
)

var codecNames = [...]string{"", "bytes", "int", "uint", "float", "bool", "time", "binary", "text", "JSON"}

func codecName(c uint8) string {
	if int(c) < len(codecNames) {
		return codecNames[c]
	}
	return "codec " + strconv.Itoa(int(c))
}

var (
	timeType         = reflect.TypeFor[time.Time]()
	binaryMarshal    = reflect.TypeFor[encoding.BinaryMarshaler]()
	binaryUnmarshal  = reflect.TypeFor[encoding.BinaryUnmarshaler]()
	textMarshal      = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshal    = reflect.TypeFor[encoding.TextUnmarshaler]()
	codecsOfTypes    sync.Map // reflect.Type to uint8; 0: unsupported
	errNotEncodable  = errors.New("lethe: the value cannot be encoded; its marshaler failed")
	errNotDecodable  = errors.New("lethe: the stored value does not decode into the field's type")
	errCodecMismatch = errors.New("lethe: sealed as another type")
)

// codecOf returns the codec of a type, 0 if it has none.
func codecOf(t reflect.Type) uint8 {
	if c, ok := codecsOfTypes.Load(t); ok {
		n, _ := c.(uint8)
		return n
	}
	c := chooseCodec(t)
	codecsOfTypes.Store(t, c)
	return c
}

func chooseCodec(t reflect.Type) uint8 {
	ptr := reflect.PointerTo(t)
	switch {
	case t == timeType:
		return codecTime
	case t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface:
		return 0
	case ptr.Implements(binaryMarshal) && ptr.Implements(binaryUnmarshal):
		return codecBinary
	case ptr.Implements(textMarshal) && ptr.Implements(textUnmarshal):
		return codecText
	}
	switch t.Kind() {
	case reflect.String:
		return codecBytes
	case reflect.Bool:
		return codecBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return codecInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return codecUint
	case reflect.Float32, reflect.Float64:
		return codecFloat
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return codecBytes
		}
		return codecJSON
	case reflect.Struct:
		if t.ConvertibleTo(timeType) { // to encoding/json it is an empty struct
			return codecTime
		}
		return codecJSON
	case reflect.Map, reflect.Array:
		return codecJSON
	default:
		return 0
	}
}

// encodeValue encodes *v. Errors never repeat the marshaler's, which may hold the value.
func encodeValue[T any](v *T) (uint8, []byte, error) {
	switch p := any(v).(type) {
	case *string:
		return codecBytes, []byte(*p), nil
	case *[]byte:
		return codecBytes, append([]byte{}, *p...), nil
	}
	return encodeReflect(reflect.ValueOf(v).Elem())
}

// encodeReflect encodes an addressable value.
func encodeReflect(v reflect.Value) (codec uint8, out []byte, err error) {
	defer func() {
		if recover() != nil { // a user's marshaler; its message may hold the value
			out, err = nil, errNotEncodable
		}
	}()
	codec = codecOf(v.Type())
	switch codec {
	case codecBytes:
		if v.Kind() == reflect.String {
			return codec, []byte(v.String()), nil
		}
		return codec, append([]byte{}, v.Bytes()...), nil
	case codecInt:
		return codec, binary.BigEndian.AppendUint64(nil, uint64(v.Int())), nil
	case codecUint:
		return codec, binary.BigEndian.AppendUint64(nil, v.Uint()), nil
	case codecFloat:
		return codec, binary.BigEndian.AppendUint64(nil, math.Float64bits(v.Float())), nil
	case codecBool:
		if v.Bool() {
			return codec, []byte{1}, nil
		}
		return codec, []byte{0}, nil
	case codecTime:
		t, _ := reflect.TypeAssert[time.Time](v.Convert(timeType))
		return codec, appendTime(nil, t), nil
	case codecBinary:
		m, _ := reflect.TypeAssert[encoding.BinaryMarshaler](v.Addr())
		out, err = m.MarshalBinary()
	case codecText:
		m, _ := reflect.TypeAssert[encoding.TextMarshaler](v.Addr())
		out, err = m.MarshalText()
	case codecJSON:
		out, err = json.Marshal(v.Addr().Interface())
	default:
		return 0, nil, fmt.Errorf("lethe: values of type %s cannot be sealed", v.Type())
	}
	if err != nil {
		return codec, nil, errNotEncodable
	}
	return codec, append([]byte{}, out...), nil
}

func appendTime(dst []byte, t time.Time) []byte {
	_, offset := t.Zone()
	dst = binary.BigEndian.AppendUint64(dst, uint64(t.Unix()))
	dst = binary.BigEndian.AppendUint32(dst, uint32(t.Nanosecond()))
	return binary.BigEndian.AppendUint32(dst, uint32(int32(offset)))
}

func parseTime(b []byte) (time.Time, bool) {
	if len(b) != 16 {
		return time.Time{}, false
	}
	nanos := binary.BigEndian.Uint32(b[8:])
	if nanos >= 1e9 {
		return time.Time{}, false
	}
	offset := int32(binary.BigEndian.Uint32(b[12:]))
	t := time.Unix(int64(binary.BigEndian.Uint64(b)), int64(nanos))
	if offset == 0 {
		return t.UTC(), true
	}
	return t.In(time.FixedZone("", int(offset))), true
}

// decodeValue is the inverse of encodeValue. Errors never repeat the value.
func decodeValue[T any](codec uint8, b []byte) (T, error) {
	var v T
	if codec == codecBytes {
		switch p := any(&v).(type) {
		case *string:
			*p = string(b)
			return v, nil
		case *[]byte:
			*p = append([]byte{}, b...)
			return v, nil
		}
	}
	err := decodeReflect(reflect.ValueOf(&v).Elem(), codec, b)
	if err != nil {
		var zero T
		return zero, err
	}
	return v, nil
}

func decodeReflect(v reflect.Value, codec uint8, b []byte) (err error) {
	defer func() {
		if recover() != nil { // a user's unmarshaler; its message may hold the value
			err = errNotDecodable
		}
	}()
	if want := codecOf(v.Type()); want != codec {
		return fmt.Errorf("%w: as %s, and the field's type %s is %s", errCodecMismatch, codecName(codec), v.Type(), codecName(want))
	}
	ok := false
	switch codec {
	case codecBytes:
		ok = true
		if v.Kind() == reflect.String {
			v.SetString(string(b))
		} else {
			v.SetBytes(append([]byte{}, b...))
		}
	case codecInt:
		if ok = len(b) == 8 && !v.OverflowInt(int64(binary.BigEndian.Uint64(b))); ok {
			v.SetInt(int64(binary.BigEndian.Uint64(b)))
		}
	case codecUint:
		if ok = len(b) == 8 && !v.OverflowUint(binary.BigEndian.Uint64(b)); ok {
			v.SetUint(binary.BigEndian.Uint64(b))
		}
	case codecFloat:
		if ok = len(b) == 8; ok {
			v.SetFloat(math.Float64frombits(binary.BigEndian.Uint64(b)))
			ok = math.Float64bits(v.Float()) == binary.BigEndian.Uint64(b) // a float32 would be another number
		}
	case codecBool:
		if ok = len(b) == 1 && b[0] <= 1; ok {
			v.SetBool(b[0] == 1)
		}
	case codecTime:
		var t time.Time
		if t, ok = parseTime(b); ok {
			v.Set(reflect.ValueOf(t).Convert(v.Type()))
		}
	case codecBinary:
		u, _ := reflect.TypeAssert[encoding.BinaryUnmarshaler](v.Addr())
		ok = u.UnmarshalBinary(append([]byte{}, b...)) == nil
	case codecText:
		u, _ := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr())
		ok = u.UnmarshalText(append([]byte{}, b...)) == nil
	case codecJSON:
		ok = json.Unmarshal(b, v.Addr().Interface()) == nil
	}
	if !ok {
		return errNotDecodable
	}
	return nil
}
