// Reads the scenarios of testdata/vectors, as README.md above describes them,
// and opens their records and key stores.
import * as f from './format.mjs'

export function hex(s) {
  const b = Buffer.from(s, 'hex')
  if (b.toString('hex') !== s) throw new Error('not lower-case hexadecimal')
  return b
}
export const text = (b) => b.toString('hex')

// bytesOf turns the named members of a JSON row into bytes.
const bytesOf = (row, ...members) => ({ ...row, ...Object.fromEntries(members.map((m) => [m, hex(row[m])])) })

// openRecordCell returns what f.openCell does for one cell of a record.
export function openRecordCell(v, cell, keys = v.keys ?? [], dead = new Set(v.dead ?? [])) {
  const scope = v.scopes[cell.scope]
  const names = { ...scope, record: v.record, field: cell.field, rowID: v.row_id }
  const own = keys.filter((k) => k.tenant === scope.tenant && k.kind === scope.kind && k.id === scope.id && k.purpose === scope.purpose)
  return f.openCell(hex(v.header), hex(cell.sealed), hex(v.store), names, own.map((k) => bytesOf(k, 'kid', 'key')), (kid) => dead.has(text(kid)))
}

// failure runs open and returns the class of its failure, or what it returned.
export function attempt(open) {
  try {
    return open()
  } catch (e) {
    if (!(e instanceof f.Failure)) throw e
    return { error: e.kind }
  }
}

// Store opens the rows of a key store as they are asked for.
export class Store {
  constructor(v) {
    this.v = v
    this.id = hex(v.store)
    this.roots = v.roots.map((r) => bytesOf(r, 'wrapped', 'commit'))
    this.pages = v.pages.map((p) => bytesOf(p, 'wrapped'))
    this.keys = v.keys.map((k) => bytesOf(k, 'kid', 'sref', 'wrapped'))
    this.ledger = v.ledger.map((e) => ({ ...bytesOf(e, 'prev', 'store', 'sref', 'root_commit', 'mac'), kids: (e.kids ?? []).map(hex), pages: e.pages ?? [] }))
    this.dead = new Set()
  }

  root(row) {
    return f.openRoot(this.id, row, (wrapped, ad) => f.open(1, hex(this.v.kek), wrapped, ad, 'refused'))
  }

  activeRoot() {
    const wraps = this.roots.filter((r) => r.epoch === this.v.active_epoch && r.state === 2)
    const opened = wraps.map((row) => ({ ...row, ...attempt(() => this.root(row)) })).find((root) => !root.error)
    if (!opened) throw new f.Failure('refused', 'no active root')
    return opened
  }

  // page opens a page; below is the level of the page asked for before.
  page(number, below = -1) {
    if (number === '0') return this.activeRoot()
    const row = this.pages.find((p) => p.page === number)
    if (!row) throw new f.Failure('refused', 'no such page')
    if (row.level <= below) throw new f.Failure('refused', 'level of the parent')
    return f.openPage(this.id, row, this.page(row.parent, row.level))
  }

  key(row) {
    const purpose = this.v.purposes.find((p) => p.pid === row.pid)
    if (!purpose) throw new f.Failure('refused', 'no such purpose')
    return f.openKey(this.id, row, purpose.name, this.page(row.page))
  }

  systemKey(kind) {
    const rows = this.keys.filter((k) => k.kind === kind)
    if (rows.length !== 1) throw new f.Failure('refused', 'not one system key of a kind')
    return this.key(rows[0])
  }

  // open verifies what a reader does before it serves anything.
  open() {
    for (const member of ['pid', 'name']) {
      if (new Set(this.v.purposes.map((p) => p[member])).size !== this.v.purposes.length) throw new f.Failure('refused', 'a purpose twice')
    }
    const root = this.activeRoot()
    this.refKey = this.systemKey(3)
    const meta = { store: this.id, applied_seq: this.v.applied_seq, ledger_head: hex(this.v.ledger_head), active_epoch: this.v.active_epoch }
    f.verifyLedger(this.ledger, this.systemKey(4), meta, root)
    for (const e of this.ledger) for (const kid of e.kids) this.dead.add(text(kid))
    return this
  }

  // keysOf opens the live keys of an sref and purpose; they must be of the kind.
  keysOf(ref, kind, purpose) {
    const pid = this.v.purposes.find((p) => p.name === purpose)?.pid
    if (f.forbids(this.ledger, ref, pid)) return []
    const rows = this.keys.filter((k) => k.sref.equals(ref) && k.pid === pid)
    const live = rows.filter((k) => !this.dead.has(text(k.kid)))
    if (live.some((k) => k.kind !== kind)) throw new f.Failure('refused', 'a key of another kind')
    return live.map((k) => ({ ...k, key: this.key(k) }))
  }

  // openCell opens a cell of a record under the keys of this store.
  openCell(record, cell) {
    const { tenant, kind, id, purpose } = record.scopes[cell.scope]
    const ref = f.sref(this.refKey, tenant, kind, id)
    const keys = this.keysOf(ref, 1, purpose)
    const forgotten = f.forbids(this.ledger, ref, this.v.purposes.find((p) => p.name === purpose)?.pid)
    const owned = keys.map((k) => ({ tenant, kind, id, purpose, kid: text(k.kid), suite: k.suite, key: text(k.key) }))
    return openRecordCell({ ...record, store: this.v.store }, cell, owned, forgotten ? { has: () => true } : this.dead)
  }

  // indexValue computes an index value under the newest version of its key.
  indexValue(i) {
    const keys = this.keysOf(f.indexSref(this.refKey, i.tenant, i.record, i.index), 2, '')
    if (keys.length === 0) throw new f.Failure('key-missing', 'no index key')
    const newest = keys.reduce((a, b) => (a.seq > b.seq ? a : b))
    return f.indexValue(newest.key, newest.seq, i.normaliser, hex(i.value), i.bits)
  }
}
