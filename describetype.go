package lethe

import "reflect"

// DescribeType says what the tags of the struct type t say, for tools that have no
// keys. The error lists all mistakes of the tags at once, as that of [ForType].
func DescribeType(t reflect.Type) (Description, error) {
	p, err := newPlan(t)
	if err != nil {
		return Description{}, err
	}
	c := core{plan: p}
	return c.describe(), nil
}

// typeName is a type's name in an error. A struct without one, which a program made
// of a configuration, would be written out whole.
func typeName(t reflect.Type) string {
	if t.Name() == "" {
		return "the struct"
	}
	return t.String()
}
