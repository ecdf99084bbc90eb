-- CONTAINING: which one-time tasks hold one of some texts in their records.
-- KEYS  1 templates; then the entries
-- ARGV  1 number of entries; then their ids, in the order of their keys; then the texts
-- reply the ids of the entries that do, in their own part of the record or in what their kind has in common. Reads only. The records stay
-- here: a search through all that waits moves none but the likely ones.
local templates, entries, found, kinds = KEYS[1], tonumber(ARGV[1]), {}, {}
local function holds(text)
  for at = 2 + entries, #ARGV do
    if string.find(text, ARGV[at], 1, true) then return true end
  end
  return false
end

local function kind_holds(record)
  local id = string.match(record, '^[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*)\n')
  if not id then return false end
  if kinds[id] == nil then kinds[id] = holds(redis.call('HGET', templates, id) or '') end
  return kinds[id]
end

for i, record in ipairs(redis.call('MGET', unpack(KEYS, 2))) do
  if record and (holds(record) or kind_holds(record)) then found[#found + 1] = ARGV[1 + i] end
end
return found
