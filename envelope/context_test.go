package envelope

// appendCellAAD is the context of a cell, as sealRecord and openRecord build it.
func appendCellAAD(dst []byte, byte0 byte, suite Suite, record, field string) []byte {
	return append(dst, cellAAD(appendCellContext(nil, suite, record), byte0, field)...)
}
