package main

import (
	"context"

	"github.com/lethe-go/lethe/envelope"
)

// countingStore counts the queries for keys.
type countingStore struct {
	envelope.Store

	keys int
}

func (c *countingStore) Keys(ctx context.Context, tree envelope.TreeID, refVer uint32, srefs []envelope.SRef) ([]envelope.KeyRow, []envelope.PageRow, error) {
	c.keys++
	return c.Store.Keys(ctx, tree, refVer, srefs)
}
