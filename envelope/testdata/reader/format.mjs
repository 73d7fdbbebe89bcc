// A reader of the Lethe format, version 1, written from FORMAT.md. It opens
// and verifies; it never writes. Numbers after a check are those of section 7.
import { createDecipheriv, createHash, createHmac, timingSafeEqual } from 'node:crypto'

// Failure is an expected failure. Its kind is one of the classes of section 7
// for a record, or 'refused' for a row of a key store or a ledger.
export class Failure extends Error {
  constructor(kind, why) {
    super(`${kind}: ${why}`)
    this.kind = kind
  }
}

function require(condition, kind, why) {
  if (!condition) throw new Failure(kind, why)
}

// Section 1: notation. Names are strings (taken as UTF-8) or bytes.

const bytes = (x) => (typeof x === 'string' ? Buffer.from(x, 'utf8') : x)

function integer(size, write) {
  const out = Buffer.alloc(size)
  write(out)
  return out
}
export const u8 = (v) => integer(1, (b) => b.writeUInt8(v))
export const u16 = (v) => integer(2, (b) => b.writeUInt16BE(v))
export const u32 = (v) => integer(4, (b) => b.writeUInt32BE(v))
export const u64 = (v) => integer(8, (b) => b.writeBigUInt64BE(BigInt(v)))
export const i64 = (v) => integer(8, (b) => b.writeBigInt64BE(BigInt(v)))
export const lp = (x) => Buffer.concat([u32(bytes(x).length), bytes(x)])
const cat = (...parts) => Buffer.concat(parts)
const sha256 = (...parts) => createHash('sha256').update(cat(...parts)).digest()
const hmac = (key, ...parts) => createHmac('sha256', key).update(cat(...parts)).digest()
const equal = (a, b) => a.length === b.length && timingSafeEqual(a, b)

// Section 2: suites.

const suites = {
  1: { nonce: 12, overhead: 28, open: openAESGCM },
  2: { nonce: 24, overhead: 40, open: openXChaCha },
}

function openAEAD(algorithm, key, nonce, body, ad) {
  const d = createDecipheriv(algorithm, key, nonce, { authTagLength: 16 })
  d.setAAD(ad)
  d.setAuthTag(body.subarray(body.length - 16))
  return cat(d.update(body.subarray(0, body.length - 16)), d.final()) // final throws if the tag is wrong
}

function openAESGCM(key, nonce, body, ad) {
  return openAEAD('aes-256-gcm', key, nonce, body, ad)
}

// draft-irtf-cfrg-xchacha-03, section 2.3: ChaCha20-Poly1305 under a subkey,
// with four zero bytes and the last eight of the nonce.
function openXChaCha(key, nonce, body, ad) {
  const subkey = hchacha20(key, nonce.subarray(0, 16))
  return openAEAD('chacha20-poly1305', subkey, cat(Buffer.alloc(4), nonce.subarray(16)), body, ad)
}

// hchacha20 is section 2.2 of draft-irtf-cfrg-xchacha-03: the ChaCha20 rounds
// without the final addition; the first and last rows of the state are the key.
export function hchacha20(key, nonce) {
  const s = new Uint32Array(16)
  s.set([0x61707865, 0x3320646e, 0x79622d32, 0x6b206574])
  for (let i = 0; i < 8; i++) s[4 + i] = key.readUInt32LE(4 * i)
  for (let i = 0; i < 4; i++) s[12 + i] = nonce.readUInt32LE(4 * i)
  const mix = (a, b, d, rotate) => {
    s[a] += s[b]
    s[d] ^= s[a]
    s[d] = (s[d] << rotate) | (s[d] >>> (32 - rotate))
  }
  const quarter = (a, b, c, d) => {
    mix(a, b, d, 16)
    mix(c, d, b, 12)
    mix(a, b, d, 8)
    mix(c, d, b, 7)
  }
  for (let i = 0; i < 10; i++) {
    for (let j = 0; j < 4; j++) quarter(j, 4 + j, 8 + j, 12 + j)
    for (let j = 0; j < 4; j++) quarter(j, 4 + ((j + 1) % 4), 8 + ((j + 2) % 4), 12 + ((j + 3) % 4))
  }
  const out = Buffer.alloc(32)
  for (let i = 0; i < 4; i++) {
    out.writeUInt32LE(s[i], 4 * i)
    out.writeUInt32LE(s[12 + i], 16 + 4 * i)
  }
  return out
}

// open opens a sealed form, nonce | ciphertext | tag.
export function open(suite, key, sealed, ad, kind = 'decrypt') {
  const { nonce, overhead, open } = suites[suite]
  require(sealed.length >= overhead, kind, 'sealed form too short')
  try {
    return open(key, sealed.subarray(0, nonce), sealed.subarray(nonce), ad)
  } catch {
    throw new Failure(kind, 'not authentic')
  }
}

// Section 4: record header.

export const scopeTag = (group, purpose) => sha256(lp('lethe/1/scope'), lp(group), lp(purpose)).subarray(0, 2)
export const dekCommit = (cellSuite, dek) => sha256(lp('lethe/1/commit'), u8(cellSuite), dek)

export function parseHeader(b) {
  const ok = (condition, why) => require(condition, 'malformed', why)
  ok(b.length >= 3, 'header shorter than its prelude')
  const [format, cellSuite, flagsAndCount] = b
  const flags = flagsAndCount >> 4
  const count = flagsAndCount & 15
  ok(format === 1, 'format')
  ok(cellSuite in suites, 'cellSuite')
  ok(flags <= 1, 'flags')
  ok(count >= 1, 'no scopes')
  const scopes = []
  let at = 3
  const take = (n) => {
    ok(b.length - at >= n, 'header too short')
    at += n
    return b.subarray(at - n, at)
  }
  for (let i = 0; i < count; i++) {
    const wrapSuite = take(1)[0]
    ok(wrapSuite in suites, 'wrapSuite')
    const scope = { wrapSuite, tag: take(2), kid: take(12), wrap: take(32 + suites[wrapSuite].overhead), commit: take(32) }
    ok(i === 0 || Buffer.compare(scopes[i - 1].tag, scope.tag) < 0, 'order of scopes')
    scopes.push(scope)
  }
  ok(at === b.length, 'bytes after the last scope')
  const digest = sha256(lp('lethe/1/record'), b.subarray(0, 3), ...scopes.flatMap((s) => [s.tag, s.commit]))
  return { cellSuite, rowIDBound: flags === 1, scopes, digest }
}

// Section 6: contexts. Rows have the column names of section 10.

export const cellContext = (byte0, cellSuite, record, field) =>
  cat(lp('lethe/1/cell'), u8(byte0), u8(cellSuite), lp(record), lp(field))

// names: { tenant, kind, id, record, group, purpose, rowID }
export const dekContext = (store, scope, names, rowIDBound, digest) =>
  cat(lp('lethe/1/dek'), store, u8(scope.wrapSuite), scope.kid, lp(names.tenant), lp(names.kind), lp(names.id),
    lp(names.record), lp(names.group), lp(names.purpose), u8(rowIDBound ? 1 : 0), lp(rowIDBound ? names.rowID : ''), digest)

export const keyContext = (store, k, purpose) =>
  cat(lp('lethe/1/key'), store, u32(k.tree), k.kid, u64(k.page), u64(k.page_gen), u8(k.kind), u8(k.suite), u32(k.ref_ver), k.sref,
    lp(purpose), u32(k.seq), i64(k.created), i64(k.seal_until), i64(k.expires))

export const pageContext = (store, p) =>
  cat(lp('lethe/1/page'), store, u32(p.tree), u64(p.page), u8(p.level), u64(p.gen), u64(p.parent), u64(p.parent_gen), u8(p.suite))

export const rootContext = (store, r) => cat(lp('lethe/1/root'), store, u32(r.tree), u64(r.epoch), lp(r.kms_uri))

// Section 7: opening. keys are the subject keys { kid, suite, key } of the
// (tenant, kind, id, purpose) of names; isDead tells whether there is evidence
// that a kid was forgotten. names.rowID is null if the caller gives none.

export function openScope(store, header, names, keys, isDead) {
  const tag = scopeTag(names.group, names.purpose)
  const scope = header.scopes.find((s) => s.tag.equals(tag)) // 2
  require(scope, 'decrypt', 'no such scope')
  const dead = isDead(scope.kid)
  const key = keys.find((k) => k.kid.equals(scope.kid)) // 3
  require(!dead, 'forgotten', 'the key is dead')
  require(key, 'key-missing', 'no such key')
  require(key.suite === scope.wrapSuite, 'decrypt', 'suite of the key') // 4
  require(!header.rowIDBound || names.rowID !== null, 'decrypt', 'row id needed')
  const context = dekContext(store, scope, names, header.rowIDBound, header.digest)
  const dek = open(scope.wrapSuite, key.key, scope.wrap, context) // 5
  require(equal(dekCommit(header.cellSuite, dek), scope.commit), 'decrypt', 'commit') // 6
  return { tag, context, dek, commit: scope.commit }
}

export function openCell(headerBytes, cell, store, names, keys, isDead) {
  const header = parseHeader(headerBytes) // 1
  const scope = openScope(store, header, names, keys, isDead)
  require(cell.length >= 1 + suites[header.cellSuite].overhead, 'malformed', 'cell too short') // 7
  require(cell[0] >> 4 === 1, 'malformed', 'kind of cell')
  const context = cellContext(cell[0], header.cellSuite, names.record, names.field)
  const plain = open(header.cellSuite, scope.dek, cell.subarray(1), context) // 8
  return { header, scope, context, codec: cell[0] & 15, plain }
}

// Section 8: stored forms. of is 'header', 'cell' or 'index'; null is NULL.

const isOf = {
  header: (b) => b.length >= 110 && b[0] === 1,
  cell: (b) => b.length >= 29 && b[0] >> 4 === 1,
  index: (b) => b.length >= 3 && b.length <= 34 && b[0] < 0x20,
}

function decodeText(text, of) {
  const b = Buffer.from(text, 'base64url') // takes more than it should
  require(b.toString('base64url') === text && isOf[of](b), 'refused', 'not a stored form')
  return b
}

// readColumn reads the bytes of a column that may hold either form.
export function readColumn(value, of) {
  if (value.length === 0) return null
  if (isOf[of](value)) return value
  const text = value.toString('latin1')
  if (/^\\x([0-9a-f]{2})+$/i.test(text)) {
    const b = Buffer.from(text.slice(2), 'hex')
    require(isOf[of](b), 'refused', 'not a stored form')
    return b
  }
  return decodeText(text, of)
}

export function readJSON(value, of) {
  const text = value.toString('utf8')
  if (/^[ \t\r\n]*null[ \t\r\n]*$/.test(text)) return null
  const string = '("(?:[^"\\\\]|\\\\.)*")'
  const tokens = new RegExp(`^${['', '{', string, ':', string, '}', ''].join('[ \t\r\n]*')}$`).exec(text)
  require(tokens, 'refused', 'not an object of one member that is a string')
  let name, sealed
  try {
    ;[name, sealed] = [JSON.parse(tokens[1]), JSON.parse(tokens[2])]
  } catch {
    throw new Failure('refused', 'not JSON')
  }
  require(name === '$lethe', 'refused', 'another member')
  return decodeText(sealed, of)
}

// Section 9: pseudonyms and blind indexes.

export const sref = (refKey, tenant, kind, id) => hmac(refKey, lp(tenant), lp(kind), lp(id)).subarray(0, 16)
export const indexSref = (refKey, tenant, record, index) => sref(refKey, tenant, '\0index', cat(lp(record), lp(index)))

export function indexValue(indexKey, version, normaliser, value, bits) {
  const tag = hmac(indexKey, lp(normaliser), value).subarray(0, Math.ceil(bits / 8))
  tag[tag.length - 1] &= 0xff << (8 * tag.length - bits)
  return cat(u16(version), tag)
}

// Section 10: key store.

const systemSref = (kind) => sha256(lp('lethe/1/system'), u8(kind)).subarray(0, 16)
export const rootCommit = (store, r, key) => sha256(lp('lethe/1/root-commit'), store, u32(r.tree), u64(r.epoch), u8(r.suite), key)

// openRoot asks the KMS, given as a function of wrapped key and associated data.
export function openRoot(store, root, kms) {
  require(root.suite in suites, 'refused', 'suite of the root')
  const key = kms(root.wrapped, rootContext(store, root))
  require(equal(rootCommit(store, root, key), root.commit), 'refused', 'commit of the root')
  return { key, suite: root.suite, gen: root.epoch }
}

export function openPage(store, page, parent) {
  require(page.suite in suites, 'refused', 'suite of the page')
  require(BigInt(page.parent_gen) === BigInt(parent.gen), 'refused', 'generation of the parent')
  return { ...page, key: open(parent.suite, parent.key, page.wrapped, pageContext(store, page), 'refused') }
}

// openKey opens a key row whose pid has the name purpose.
export function openKey(store, row, purpose, leaf) {
  require(row.suite in suites && row.kind >= 1 && row.kind <= 4, 'refused', 'suite or kind of the key')
  require(leaf.level === 0, 'refused', 'the page is not a leaf')
  require(BigInt(row.page_gen) === BigInt(leaf.gen), 'refused', 'generation of the leaf')
  require(BigInt(row.expires) === 0n, 'refused', 'expires')
  if (row.kind >= 3) require(row.ref_ver === 0 && row.sref.equals(systemSref(row.kind)), 'refused', 'sref of a system key')
  if (row.kind === 2) require(row.seq <= 8191, 'refused', 'version of an index key')
  return open(leaf.suite, leaf.key, row.wrapped, keyContext(store, row, purpose), 'refused')
}

// Section 11: ledger.

export const ledgerBytes = (e) =>
  cat(lp('lethe/1/ledger'), u64(e.seq), lp(e.prev), i64(e.time), e.store, lp(e.kind), u32(e.tree), u64(e.epoch), u32(e.ref_ver), e.sref, u32(e.pid),
    u32(e.kids.length), ...e.kids, u32(e.pages.length), ...e.pages.map(u64), lp(e.kms_handle), lp(e.root_commit))
export const ledgerMAC = (key, entry) => hmac(key, ledgerBytes(entry))
export const ledgerHash = (entry, mac) => sha256(ledgerBytes(entry), mac)

// forbids says whether a forget covers (sref, pid) that no later readmit lifted.
export function forbids(entries, sref, pid) {
  let all = false
  let one = false
  for (const e of entries.filter((x) => x.ref_ver === 1 && x.sref.equals(sref))) {
    const forget = e.kind === 'forget'
    if (!forget && e.kind !== 'readmit') continue
    if (e.pid === 0) [all, one] = [forget, one && forget]
    else if (e.pid === pid) one = forget
  }
  return all || one
}

const ledgerKinds = ['init', 'forget', 'forget-more', 'readmit', 'root-begin', 'root-switch']

// verifyLedger checks a ledger against the store it belongs to,
// { store, applied_seq, ledger_head, active_epoch } and the active root.
export function verifyLedger(entries, key, meta, activeRoot) {
  const ok = (condition, why) => require(condition, 'refused', why)
  let prev = Buffer.alloc(32)
  let allocated = 0n
  let switched // the last init or root-switch
  ok(meta.applied_seq > 0, 'the store was not completed')
  ok(entries.length >= meta.applied_seq, 'the ledger ends before applied_seq')
  entries.forEach((e, i) => {
    ok(BigInt(e.seq) === BigInt(i + 1), 'seq')
    ok(equal(e.prev, prev), 'prev')
    ok(e.store.equals(meta.store), 'store')
    ok(ledgerKinds.includes(e.kind), 'kind of entry')
    ok(equal(e.mac, ledgerMAC(key, e)), 'mac')
    prev = ledgerHash(e, e.mac)
    ok(e.seq !== meta.applied_seq || equal(prev, meta.ledger_head), 'ledger_head')
    if (['init', 'root-begin', 'root-switch'].includes(e.kind) && BigInt(e.epoch) > allocated) allocated = BigInt(e.epoch)
    if (['init', 'root-switch'].includes(e.kind)) switched = e
  })
  const active = BigInt(meta.active_epoch)
  ok(active <= allocated && !(switched && active < BigInt(switched.epoch)), 'active_epoch')
  ok(!switched || active > BigInt(switched.epoch) || equal(switched.root_commit, activeRoot.commit), 'commit of the active root')
}
