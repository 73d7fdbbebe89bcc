// Says what comes of scenarios that may be damaged: one record or key store a
// line on standard input, a line of JSON with the outcomes for each on output.
import { createInterface } from 'node:readline'
import { Store, attempt, openRecordCell, text } from './scenario.mjs'

const said = (got) => got.error ?? `${got.codec}:${text(got.plain)}`

function outcomes(v) {
  if (!v.roots) return v.cells.map((cell) => said(attempt(() => openRecordCell(v, cell))))
  const store = attempt(() => new Store(v).open())
  if (store.error) return [store.error]
  const index = attempt(() => ({ value: store.indexValue(v.index) }))
  return [...v.record.cells.map((cell) => said(attempt(() => store.openCell(v.record, cell)))), index.error ?? text(index.value)]
}

for await (const line of createInterface({ input: process.stdin })) console.log(JSON.stringify(outcomes(JSON.parse(line))))
