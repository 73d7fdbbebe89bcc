// The stream of c2sp.org/chacha8rand: 1024 bytes of ChaCha8 at a time, in
// groups of four interleaved blocks; the last 32 become the next key.

const rotl = (x, n) => (x << n) | (x >>> (32 - n))

// block writes one block: rounds on the state of a zero nonce, and the key
// words alone added to the result. Word i goes to out[4 * i].
function block(key, counter, out) {
  const s = new Uint32Array(16)
  s.set([0x61707865, 0x3320646e, 0x79622d32, 0x6b206574])
  s.set(key, 4)
  s[12] = counter
  const quarter = (a, b, c, d) => {
    s[a] += s[b]
    s[d] = rotl(s[d] ^ s[a], 16)
    s[c] += s[d]
    s[b] = rotl(s[b] ^ s[c], 12)
    s[a] += s[b]
    s[d] = rotl(s[d] ^ s[a], 8)
    s[c] += s[d]
    s[b] = rotl(s[b] ^ s[c], 7)
  }
  for (let i = 0; i < 4; i++) {
    quarter(0, 4, 8, 12)
    quarter(1, 5, 9, 13)
    quarter(2, 6, 10, 14)
    quarter(3, 7, 11, 15)
    quarter(0, 5, 10, 15)
    quarter(1, 6, 11, 12)
    quarter(2, 7, 8, 13)
    quarter(3, 4, 9, 14)
  }
  for (let i = 0; i < 8; i++) s[4 + i] += key[i]
  for (let i = 0; i < 16; i++) out[4 * i] = s[i]
}

// stream returns a function that draws the next n bytes.
export function stream(seed) {
  const key = new Uint32Array(8)
  const setKey = (b) => key.forEach((_, i) => (key[i] = b.readUInt32LE(4 * i)))
  setKey(seed)
  let rest = Buffer.alloc(0)
  const more = () => {
    const out = Buffer.alloc(1024)
    const words = new Uint32Array(256)
    for (let i = 0; i < 16; i++) block(key, i, words.subarray(64 * (i >> 2) + (i & 3)))
    words.forEach((w, i) => out.writeUInt32LE(w, 4 * i))
    setKey(out.subarray(992))
    return out.subarray(0, 992)
  }
  return (n) => {
    while (rest.length < n) rest = Buffer.concat([rest, more()])
    const drawn = rest.subarray(0, n)
    rest = rest.subarray(n)
    return drawn
  }
}
