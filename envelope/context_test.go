package envelope

// appendCellAAD is the context of a cell, as sealRecord and openRecord build it.
func appendCellAAD(dst []byte, byte0 byte, suite Suite, record, field string) []byte {
	c := cellShape{context: appendCellContext(nil, record, field)}
	return append(dst, c.at(byte0, suite)...)
}
