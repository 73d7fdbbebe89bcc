// The cases of accumulated.json, drawn as README.md above describes.
import { createCipheriv, createHash } from 'node:crypto'
import { stream } from './chacha8rand.mjs'
import * as f from './format.mjs'

const alphabet = ['a', 'Z', '0', ' ', '/', '\0', '\u00e9', 'e\u0301', '\u65e5', '\u{1f600}', Buffer.from([0xff]), 'lethe/1/', '\0\0\0\x01'].map((s) => Buffer.from(s))

function source(name) {
  const bytes = stream(createHash('sha256').update(name).digest())
  const n = (below) => bytes(4).readUInt32BE() % below
  const u32 = () => bytes(4).readUInt32BE() >>> (8 * n(4))
  const u64 = () => bytes(8).readBigUInt64BE() >> BigInt(8 * n(8))
  return {
    bytes, n, u32, u64,
    u8: () => u32() & 0xff,
    i64: () => BigInt.asIntN(64, u64()),
    name: () => Buffer.concat(Array.from({ length: n(12) }, () => alphabet[n(alphabet.length)])),
  }
}

// seal writes the sealed form of section 2 with a nonce that is given.
function seal(suite, key, nonce, plain, ad) {
  const xchacha = suite === 2
  const c = xchacha
    ? createCipheriv('chacha20-poly1305', f.hchacha20(key, nonce.subarray(0, 16)), Buffer.concat([Buffer.alloc(4), nonce.subarray(16)]), { authTagLength: 16 })
    : createCipheriv('aes-256-gcm', key, nonce)
  c.setAAD(ad)
  return Buffer.concat([nonce, c.update(plain), c.final(), c.getAuthTag()])
}

const nonceLength = (suite) => (suite === 1 ? 12 : 24)

// record draws a header and a cell, opens every wrap, and puts what it finds.
function record(src, put) {
  const [store, cellSuite, bound] = [src.bytes(16), 1 + src.n(2), src.n(2) === 1]
  const [record, rowID] = [src.name(), src.name()]
  const scopes = Array.from({ length: 1 + src.n(3) }, (_, j) => {
    const names = { tenant: src.name(), kind: src.name(), id: src.name(), record, group: Buffer.concat([src.name(), Buffer.from('abc'[j])]), purpose: src.name(), rowID }
    const kid = src.bytes(12)
    const suite = 1 + src.n(2)
    return { names, kid, wrapSuite: suite, key: src.bytes(32), tag: f.scopeTag(names.group, names.purpose) }
  })
  for (const s of scopes) {
    s.dek = src.bytes(32)
    s.commit = f.dekCommit(cellSuite, s.dek)
  }
  const sorted = [...scopes].sort((a, b) => Buffer.compare(a.tag, b.tag))
  const prelude = Buffer.from([1, cellSuite, (bound ? 0x10 : 0) | scopes.length])
  const digest = createHash('sha256').update(Buffer.concat([f.lp('lethe/1/record'), prelude, ...sorted.flatMap((s) => [s.tag, s.commit])])).digest()
  for (const s of sorted) s.wrap = seal(s.wrapSuite, s.key, src.bytes(nonceLength(s.wrapSuite)), s.dek, f.dekContext(store, s, s.names, bound, digest))
  const bytes = Buffer.concat([prelude, ...sorted.flatMap((s) => [f.u8(s.wrapSuite), s.tag, s.kid, s.wrap, s.commit])])

  let header
  try {
    header = f.parseHeader(bytes)
  } catch (e) {
    if (!(e instanceof f.Failure)) throw e
    return // two tags are equal
  }
  put(bytes)
  put(header.digest)
  for (const s of scopes) {
    const opened = f.openScope(store, header, s.names, [{ kid: s.kid, suite: s.wrapSuite, key: s.key }], () => false)
    put(opened.context)
    put(opened.dek)
    put(opened.commit)
  }
  const [field, codec] = [src.name(), src.n(16)]
  const plain = src.bytes(src.n(100))
  const context = f.cellContext(0x10 | codec, cellSuite, record, field)
  const sealed = seal(cellSuite, scopes[0].dek, src.bytes(nonceLength(cellSuite)), plain, context)
  put(context)
  put(f.open(cellSuite, scopes[0].dek, sealed, context))
}

// rows draws a row of each table, a pseudonym, an index value and an entry.
function rows(src, put) {
  const store = src.bytes(16)
  const root = { tree: src.u32(), epoch: src.u64(), kms_uri: src.name(), suite: src.u8() }
  put(f.rootContext(store, root))
  put(f.rootCommit(store, root, src.bytes(32)))

  put(f.pageContext(store, { tree: src.u32(), page: src.u64(), parent: src.u64(), parent_gen: src.u64(), level: src.u8(), gen: src.u64(), suite: src.u8() }))

  const key = {
    kid: src.bytes(12), tree: src.u32(), page: src.u64(), page_gen: src.u64(), kind: src.u8(), suite: src.u8(), ref_ver: src.u32(), sref: src.bytes(16),
    pid: src.u32(), purpose: src.name(), seq: src.u32(), created: src.i64(), seal_until: src.i64(), expires: src.i64(),
  }
  put(f.keyContext(store, key, key.purpose))

  const secret = src.bytes(32)
  put(f.sref(secret, src.name(), src.name(), src.name()))

  const [version, normaliser, value, bits] = [src.u32() & 0xffff, src.name(), src.bytes(src.n(40)), 8 + src.n(249)]
  put(f.indexValue(secret, version, normaliser, value, bits))

  const entry = {
    seq: src.u64(), prev: src.bytes(32), time: src.i64(), store, kind: src.name(), tree: src.u32(), epoch: src.u64(), ref_ver: src.u32(),
    sref: src.bytes(16), pid: src.u32(), kms_handle: src.name(), root_commit: src.bytes(32 * src.n(2)), kids: [], pages: [],
  }
  for (let i = src.n(3); i > 0; i--) {
    entry.kids.push(src.bytes(12))
    entry.pages.push(src.u64())
  }
  const mac = f.ledgerMAC(secret, entry)
  put(f.ledgerBytes(entry))
  put(mac)
  put(f.ledgerHash(entry, mac))
}

export function accumulate(cases) {
  const src = source('lethe vectors/accumulated cases')
  const digest = createHash('sha256')
  const put = (b) => digest.update(f.lp(b))
  for (let i = 0; i < cases; i++) {
    record(src, put)
    rows(src, put)
  }
  return digest.digest()
}
