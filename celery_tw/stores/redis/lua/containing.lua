-- CONTAINING: which one-time tasks hold one of some texts in their records.
-- KEYS  the entries
-- ARGV  1 number of entries; then their ids, in the order of their keys; then the texts
-- reply the ids of the entries that do. Reads only. The records stay here: a search through all that waits moves none but the likely ones.
local entries, found = tonumber(ARGV[1]), {}
for i, record in ipairs(redis.call('MGET', unpack(KEYS))) do
  for at = 2 + entries, #ARGV do
    if record and string.find(record, ARGV[at], 1, true) then
      found[#found + 1] = ARGV[1 + i]
      break
    end
  end
end
return found
