// Package fpe is format-preserving encryption: FF1 of NIST SP 800-38G with AES.
// What goes in as 16 digits comes out as 16 digits, so that it fits the columns,
// checks and files made for the original.
//
// [FF1] works on numerals, [Text] on strings over an [Alphabet]. Take sealed
// fields of the root package wherever the format is free: they promise far more.
//
// # What it does not give
//
//   - Integrity. Whatever is decrypted gives some value: a changed ciphertext, a
//     wrong key and a wrong tweak go unnoticed.
//   - Hidden equality. It is deterministic: equal values under equal tweaks have
//     equal ciphertexts, and who sees many can count them. Whoever may have values
//     encrypted can try guesses.
//   - Hidden length or alphabet. Both are what is preserved.
//   - A large domain. Six digits have a million values; someone who may ask for
//     encryptions, or sees many with what they stand for, has a table before long.
//     Lengths with fewer than [MinDomain] values are refused.
//   - Forgetting. All values share the key; one cannot be made unreadable alone.
//
// # The tweak
//
// The tweak chooses one of very many permutations under the same key. It need not
// be secret, and must be known again to decrypt. Where it may differ, make it
// differ: a tweak made of, say, the tenant, the column and the record's id keeps
// equal values from being equal ciphertexts, ciphertexts from being of use in
// another place, and is what stands between a small domain and an attacker who
// collects pairs. A constant tweak is for tokens that must join across places, and
// should at least name the kind of data. The parts of a tweak need a fixed size or
// a separator: "ab" with "c" is otherwise "a" with "bc".
//
// # The algorithm
//
// FF1 of NIST SP 800-38G (2016; steps and algorithms are numbered as there) with the
// minimum domain that the second public draft of its Revision 1 (February 2025)
// makes a requirement; AES-128, -192 or -256, radix 2 to 65,536, up to 1,024
// numerals and 4,096 bytes of tweak. FF3 and FF3-1, which that draft leaves out
// after Beyne's attack (Linear cryptanalysis of FF3-1 and FEA, CRYPTO 2021), are
// not here.
//
// Arithmetic is on exact integers of one, two or more words, by multiplication
// and masks: no division and no branch depends on the value. Not constant in time
// are the look-ups of an [Alphabet] and the refusal of bad symbols.
//
// On amd64 with AES and AVX instructions, halves of up to 62 bits (36 digits) run in
// assembly of this package's own. In FIPS 140 mode, in a build with the tag purego,
// for longer values and on every other CPU, AES is the standard library's. All give
// the same results.
package fpe
