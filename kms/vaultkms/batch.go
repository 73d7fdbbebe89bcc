package vaultkms

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/lethe-go/lethe/kms"
)

const (
	// maxBatchItems and maxBatchBytes bound one request; Vault takes 32 MiB by default.
	maxBatchItems = 1000
	maxBatchBytes = 8 << 20
)

// BatchItem is one thing to wrap or unwrap.
type BatchItem struct {
	Data           []byte // the plaintext to wrap, or what was wrapped
	AssociatedData []byte
}

// BatchResult is what became of one [BatchItem]. Exactly one field is set,
// but that an empty plaintext is empty Data.
type BatchResult struct {
	Data []byte
	Err  error // as of EncryptWithContext or DecryptWithContext
}

// EncryptBatch wraps many plaintexts with few requests, each as
// [Key.EncryptWithContext] does. There is one result for each item, in order;
// where the returned error is not nil there are none. Errors of single items
// are in their results.
func (k *Key) EncryptBatch(ctx context.Context, items []BatchItem) ([]BatchResult, error) {
	return k.batch(ctx, items, &batchOp{
		name: "encrypt",
		check: func(item BatchItem) error {
			return checkLengths(item.Data, item.AssociatedData)
		},
		input: func(item BatchItem, reference string) any {
			return encryptInput{Plaintext: b64.EncodeToString(item.Data), AssociatedData: b64.EncodeToString(item.AssociatedData), Reference: reference}
		},
		result: func(item BatchItem, answer batchItem) ([]byte, error) {
			return answer.wrappedItem.check(len(item.Data))
		},
		single: k.EncryptWithContext,
	})
}

// DecryptBatch unwraps many ciphertexts with few requests, each as
// [Key.DecryptWithContext] does. Results are as those of [Key.EncryptBatch].
func (k *Key) DecryptBatch(ctx context.Context, items []BatchItem) ([]BatchResult, error) {
	return k.batch(ctx, items, &batchOp{
		name: "decrypt",
		check: func(item BatchItem) error {
			_, err := checkCiphertext(item.Data, item.AssociatedData)
			return err
		},
		input: func(item BatchItem, reference string) any {
			return decryptInput{Ciphertext: string(item.Data), AssociatedData: b64.EncodeToString(item.AssociatedData), Reference: reference}
		},
		result: func(item BatchItem, answer batchItem) ([]byte, error) {
			c, err := parseCiphertext(string(item.Data))
			if err != nil {
				return nil, err
			}
			return answer.openedItem.check(c)
		},
		single: k.DecryptWithContext,
	})
}

// batchOp is what differs between the two directions.
type batchOp struct {
	name   string
	check  func(BatchItem) error
	input  func(item BatchItem, reference string) any
	result func(BatchItem, batchItem) ([]byte, error)
	single func(ctx context.Context, data, associatedData []byte) ([]byte, error)
}

func (k *Key) batch(ctx context.Context, items []BatchItem, op *batchOp) (results []BatchResult, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	results = make([]BatchResult, len(items))
	defer func() {
		if err != nil {
			clearResults(results)
			results = nil
		}
	}()
	var chunk []int // indexes of the items of one request
	size := 0
	for i, item := range items {
		if err := op.check(item); err != nil {
			results[i].Err = kms.Rejected(op.name, k.uri, err)
			continue
		}
		n := len(item.Data) + len(item.AssociatedData)
		if len(chunk) == maxBatchItems || len(chunk) > 0 && size+n > maxBatchBytes {
			if err := k.batchRequest(ctx, items, chunk, results, op); err != nil {
				return results, err
			}
			chunk, size = chunk[:0], 0
		}
		chunk, size = append(chunk, i), size+n
	}
	if len(chunk) == 0 {
		return results, nil
	}
	return results, k.batchRequest(ctx, items, chunk, results, op)
}

func clearResults(results []BatchResult) {
	for _, r := range results {
		clear(r.Data)
	}
}

// batchRequest sends the items with the given indexes as one request.
func (k *Key) batchRequest(ctx context.Context, items []BatchItem, indexes []int, results []BatchResult, op *batchOp) error {
	input, references := make([]any, len(indexes)), make([]string, len(indexes))
	for j, i := range indexes {
		references[j] = strconv.Itoa(i)
		input[j] = op.input(items[i], references[j])
	}
	answer, err := k.post(ctx, k.mount+"/"+op.name+"/"+k.name, map[string]any{"batch_input": input})
	defer clear(answer)
	// Where an item fails, the status is 400 or 500 and the answer is there all the same.
	var status *statusError
	if err != nil && (!errors.As(err, &status) || status.code != 400 && status.code != 500) {
		return classify(ctx, op.name, k.uri, err)
	}
	parsed, parseErr := parseBatch(answer, references)
	if parseErr != nil {
		if err == nil {
			err = parseErr
		}
		return classify(ctx, op.name, k.uri, err)
	}
	for j, i := range indexes {
		r := &results[i]
		if parsed[j].Error == "" {
			if r.Data, err = op.result(items[i], parsed[j]); err != nil {
				return classify(ctx, op.name, k.uri, errAnswer)
			}
			continue
		}
		if finalItemError(parsed[j].Error) {
			r.Err = kms.Rejected(op.name, k.uri, nil)
			continue
		}
		// The batch's status does not say whose failure this is; alone, it does.
		r.Data, r.Err = op.single(ctx, items[i].Data, items[i].AssociatedData)
		if r.Err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// finalItemError knows transit's words for a ciphertext that does not open.
func finalItemError(text string) bool {
	return strings.Contains(text, "message authentication failed") || strings.HasPrefix(text, "invalid ciphertext")
}
