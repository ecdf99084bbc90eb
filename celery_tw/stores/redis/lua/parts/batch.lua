-- BATCH: what FIRE ONCE and ADMIT are called with: one-time tasks, and where each waits.
-- KEYS  1 leader  2 due  3 names  4 fired  5 skips of one-time tasks  6 held  7 by-task  8 templates  9 template-dues  10 lanes; then the
--       entries; then the queue keys that the caller knows, or the outbox alone; then those of the script
-- ARGV  1 epoch  2 lease ms  3 number of entries  4 fingerprint of the broker  5 fired kept ms  6 skips kept ms  7 'queue' | 'outbox'
--       8 patterns of the tasks that may be sent, one a line ('' = all)  9 number of the first message, which the others count on from
--       10 number of queue keys; then per entry: id, due ms or the ms when it came to its lane; then those of the script
local leader, due, names, fired_key, skips, held, by_task, templates_key, template_dues, lanes_key = unpack(KEYS, 1, 10)
local epoch, lease, entries, fingerprint, fired_kept, skips_kept, allowed, first_number =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[8], ARGV[9]
local own_key, own_arg = 11 + entries + tonumber(ARGV[10]), 11 + 2 * entries -- those of the script begin there
local outbox = ARGV[7] == 'outbox' and KEYS[11 + entries]

-- The lane of each that does not wait in due; the queue keys that the caller knows.
local ids, moments, entry_keys, lane_of, knows = {}, {}, {unpack(KEYS, 11, 10 + entries)}, {}, {}
for i = 1, entries do ids[i], moments[i] = ARGV[9 + 2 * i], ARGV[10 + 2 * i] end
for i = 11 + entries, own_key - 1 do knows[KEYS[i]] = true end
