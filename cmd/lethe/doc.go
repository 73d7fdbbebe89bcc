// Command lethe works with what package lethe leaves behind, by hand.
//
//	lethe receipt verify --key PUB.pem [--ledger FILE] RECEIPT.json
//	lethe receipt show RECEIPT.json
//	lethe receipt keygen --out KEY.pem --public PUB.pem
//
// Receipt commands need no network, no key store and no KMS. --json writes the
// result for programs. It exits with 0 if all is well, 1 if a receipt is not
// verified, and 2 if it was called wrongly or could not read or write a file.
package main
