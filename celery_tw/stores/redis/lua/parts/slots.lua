-- SLOTS: what FIRE is called with: slots of recurring entries that have been decided. Needs commands.
-- KEYS  1 leader  2 due  3 backlogs  4 names; then per entry: entry, history, [skips], [backlog]; then the queue keys
-- ARGV  1 epoch  2 lease ms  3 history size  4 number of entries  5 index in KEYS of the first queue key  6 skips kept ms
--       7 number of the first message; then per entry
--       id, due ms, version, slot ms, next due ms ('' = none), name to drop ('' = keep the entry),
--       skip ('' | JSON, then its end ms), backlog ('' | its member, then from, to, next, left, rate),
--       number of commands, and per command: operation (parts/commands.lua), queue index, payload
local leader, due, backlogs, names = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, lease, history_size, entries, first_queue, skips_kept, first_number =
  ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]

local key_at, arg_at = 4, 7
local function next_key() key_at = key_at + 1 return KEYS[key_at] end
local function next_arg() arg_at = arg_at + 1 return ARGV[arg_at] end

local function read_slot()
  local e = {key = next_key(), history = next_key(), id = next_arg(), due = next_arg(), version = next_arg(), slot = next_arg(),
             next_due = next_arg(), drop = next_arg(), skip = next_arg()}
  if e.skip ~= '' then e.skips, e.skip_to = next_key(), next_arg() end
  e.backlog = next_arg()
  if e.backlog ~= '' then
    e.backlog_key = next_key()
    e.range = {'from', next_arg(), 'to', next_arg(), 'next', next_arg(), 'left', next_arg(), 'rate', next_arg(), 'generation', '0'}
    e.left = e.range[8]
  end
  e.commands = read_commands(next_arg, first_queue)
  return e
end
