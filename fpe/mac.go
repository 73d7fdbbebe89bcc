package fpe

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
)

// The MAC of step 6 is CBC-MAC over P || Q, with
//
//	Q = tweak || zeros || round || half,
//
// the zeros so many that Q fills its blocks. All of it before the block that
// holds the round is the same in every round; so it is chained once a value.

// lead is how many bytes of Q come before the block that holds the round. That
// block has room for p.at bytes more of the tweak.
func (p *plan) lead(tweakLength int) int {
	over := tweakLength - p.at
	if over <= 0 {
		return 0
	}
	return (over + aes.BlockSize - 1) / aes.BlockSize * aes.BlockSize
}

// chain sets state to what the block that holds the round is added to, with
// what that block has of the tweak added. The state must be on the heap, as the
// block cipher is an interface.
func (c *core) chain(state *[aes.BlockSize]byte, p *plan, tweak []byte) {
	if len(tweak) <= macTable {
		*state = p.mac[len(tweak)]
	} else {
		c.firstBlock(p, len(tweak), state)
		c.block.Encrypt(state[:], state[:])
	}
	lead := p.lead(len(tweak))
	for len(tweak) > 0 && lead > 0 {
		n := subtle.XORBytes(state[:], state[:], tweak)
		c.block.Encrypt(state[:], state[:])
		tweak, lead = tweak[n:], lead-aes.BlockSize
	}
	xorShort(state, tweak)
}

// xorShort adds the tweak's end, shorter than a block, to the state.
func xorShort(state *[aes.BlockSize]byte, tweak []byte) {
	i := 0
	if len(tweak) >= 8 {
		binary.LittleEndian.PutUint64(state[:], binary.LittleEndian.Uint64(state[:])^binary.LittleEndian.Uint64(tweak))
		i = 8
	}
	for ; i < len(tweak); i++ {
		state[i] ^= tweak[i]
	}
}

// xorBlock adds a block to the state.
func xorBlock(state *[aes.BlockSize]byte, block []byte) {
	_ = block[aes.BlockSize-1]
	binary.LittleEndian.PutUint64(state[:], binary.LittleEndian.Uint64(state[:])^binary.LittleEndian.Uint64(block))
	binary.LittleEndian.PutUint64(state[8:], binary.LittleEndian.Uint64(state[8:])^binary.LittleEndian.Uint64(block[8:]))
}
