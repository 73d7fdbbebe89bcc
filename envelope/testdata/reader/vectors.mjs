// Opens every vector of a directory and compares what it finds with what the
// vector states: node vectors.mjs <directory>. It prints one line of JSON for
// each file, and ends with status 1 if one of them does not hold.
import { deepStrictEqual as same } from 'node:assert'
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import * as f from './format.mjs'
import { accumulate } from './accumulate.mjs'
import { Store, attempt, hex, openRecordCell, text } from './scenario.mjs'

// checkCells counts the cells opened and refused. open opens one of them.
function checkCells(v, open = (cell) => openRecordCell(v, cell)) {
  let opened = 0
  for (const cell of v.cells) {
    const got = attempt(() => open(cell))
    same(got.error, cell.error, `cell ${cell.field}: ${got.error ?? 'opened'}, and the vector says ${cell.error ?? 'opens'}`)
    if (got.error) continue
    opened++
    same({ codec: got.codec, plain: text(got.plain), context: text(got.context) }, { codec: cell.codec ?? 0, plain: cell.plain, context: cell.context })
    const { tag, context, dek, commit } = got.scope
    same({ tag: text(tag), context: text(context), dek: text(dek), commit: text(commit) }, v.steps[cell.scope])
    same(text(got.header.digest), v.record_digest)
  }
  return { opened, refused: v.cells.length - opened }
}

function checkKeyStore(v) {
  const s = new Store(v).open()
  for (const row of s.roots) same({ context: text(f.rootContext(s.id, row)), key: text(s.root(row).key) }, { context: row.context, key: row.key })
  for (const row of s.pages) same({ context: text(f.pageContext(s.id, row)), key: text(s.page(row.page).key) }, { context: row.context, key: row.key })
  for (const row of s.keys) same({ context: text(f.keyContext(s.id, row, row.purpose)), key: text(s.key(row)) }, { context: row.context, key: row.key })
  for (const e of s.ledger) same({ canonical: text(f.ledgerBytes(e)), hash: text(f.ledgerHash(e, e.mac)) }, { canonical: e.canonical, hash: e.hash })
  same(checkCells(v.record), checkCells(v.record, (cell) => s.openCell(v.record, cell)))
  same(text(s.indexValue(v.index)), v.index.index_value)
  return { opened: s.roots.length + s.pages.length + s.keys.length + s.ledger.length + v.record.cells.length + 1, refused: 0 }
}

function checkPseudonyms(v) {
  for (const s of v.srefs) same(text(f.sref(hex(v.key), hex(s.tenant), hex(s.kind), hex(s.id))), s.sref)
  return { opened: v.srefs.length, refused: 0 }
}

function checkIndex(v) {
  for (const i of v.index_values) same(text(f.indexValue(hex(v.key), i.version, i.normaliser, hex(i.value), i.bits)), i.index_value)
  return { opened: v.index_values.length, refused: 0 }
}

function checkAccumulated(v) {
  same(text(accumulate(v.cases)), v.sha256)
  return { opened: v.cases, refused: 0 }
}

function checkForms(v) {
  for (const form of v.forms) {
    const read = form.in === 'json' ? f.readJSON : f.readColumn
    const got = attempt(() => ({ bytes: read(hex(form.value), form.of) }))
    same({ error: got.error, bytes: got.bytes ? text(got.bytes) : undefined }, { error: form.error, bytes: form.bytes }, `${form.of} in ${form.in}: ${form.about}`)
  }
  return { opened: v.forms.filter((form) => !form.error).length, refused: v.forms.filter((form) => form.error).length }
}

function check(v) {
  if ('header' in v) return checkCells(v)
  if ('roots' in v) return checkKeyStore(v)
  if ('forms' in v) return checkForms(v)
  if ('srefs' in v) return checkPseudonyms(v)
  if ('index_values' in v) return checkIndex(v)
  if ('cases' in v) return checkAccumulated(v)
  throw new Error('a vector of an unknown kind')
}

const directory = process.argv[2]
for (const file of readdirSync(directory).sort()) {
  let result
  try {
    result = check(JSON.parse(readFileSync(join(directory, file), 'utf8')))
  } catch (e) {
    result = { failed: e.message }
    process.exitCode = 1
  }
  console.log(JSON.stringify({ file, ...result }))
}
