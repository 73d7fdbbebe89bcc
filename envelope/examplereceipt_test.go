package envelope_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lethe-go/lethe/envelope"
)

// A receipt is signed, given away, and verified without the store.
func ExampleSignReceipt() {
	ctx := context.Background()
	ring, _, stop, err := newRing(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	public, private, err := ed25519.GenerateKey(rand.Reader) // once; a service keeps the private half in a KMS or a file
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := ring.Forget(ctx, customer("ada"))
	if err != nil {
		fmt.Println(err)
		return
	}
	signed, err := envelope.SignReceipt(receipt, private)
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := json.Marshal(signed)
	if err != nil {
		fmt.Println(err)
		return
	}

	var got envelope.SignedReceipt
	if err := json.Unmarshal(text, &got); err != nil {
		fmt.Println(err)
		return
	}
	verified, err := got.Verify(public)
	fmt.Println(verified.Seq == receipt.Seq, err)
	got.Payload[10] ^= 1
	_, err = got.Verify(public)
	fmt.Println(errors.Is(err, envelope.ErrNotVerified))
	// Output:
	// true <nil>
	// true
}
