-- PUT: store new or changed recurring entries.
-- KEYS  1 due  2 names  3 static  4 news  5 news-seq  6 schema  7 bad; then per entry: entry, and unless it is new: tombstone, skips, history
-- ARGV  1 number of entries  2 schema version  3 start ms of the writing process ('' = not a settings entry)  4 news kept  5 skips kept ms; then per entry
--       name, id, definition JSON, mark ms, due ms ('' = none), then 'new', or: version expected ('' = none stored), mark expected,
--       skip ('' | JSON), its end ms
-- reply {now ms, status per entry}: 'put' | 'raced' (somebody else wrote: read again) | 'older' (a newer process owns it)
-- A mark expected of '' leaves mark and due time as they stand: only what the entry sends has changed.
-- Version and mark are a compare-and-set: a repeated call answers 'raced', and the reader then finds its own definition stored.
-- The first write may be refused when memory is full, and then nothing was done.
-- uses now, news
local due, names, static, news, news_seq, schema_key, bad = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local entries, schema, start, news_kept, skips_kept = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local function owned_by_newer(name, tombstone)
  if start == '' then return false end
  local writer = redis.call('HGET', static, name)
  if writer then return tonumber(writer) > tonumber(start) end
  local left = redis.call('GET', tombstone)
  local remover = left and string.match(left, '^%d+ (%d+)$')
  return remover and tonumber(remover) > tonumber(start)
end

local key_at, arg_at = 7, 5
local function next_key() key_at = key_at + 1 return KEYS[key_at] end
local function next_arg() arg_at = arg_at + 1 return ARGV[arg_at] end

local function read_entry()
  local e = {key = next_key(), name = next_arg(), id = next_arg(), definition = next_arg(), mark = next_arg(), due = next_arg()}
  e.version = next_arg()
  if e.version == 'new' then
    e.version, e.mark_expected, e.skip = '', '', ''
  else
    e.tombstone, e.skips, e.history = next_key(), next_key(), next_key()
    e.mark_expected, e.skip, e.skip_to = next_arg(), next_arg(), next_arg()
  end
  return e
end

local batch, named = {}, {}
for i = 1, entries do
  batch[i] = read_entry()
  named[i] = batch[i].name
end
local holders = redis.call('HMGET', names, unpack(named))

local statuses, changed, new_names, dues, hand_written = {now_text}, {}, {}, {}, {}
for i, e in ipairs(batch) do
  local holder, version = holders[i], e.version
  local found = redis.call('HMGET', e.key, 'ver', 'mark')
  local moved = version ~= '' and e.mark_expected ~= '' and (tonumber(found[2] or '0') or 0) ~= tonumber(e.mark_expected)
  if (holder and holder ~= e.id) or (found[1] or '') ~= version or moved then
    statuses[i + 1] = 'raced'
  elseif owned_by_newer(e.name, e.tombstone) then
    statuses[i + 1] = 'older'
  else
    if not holder then
      new_names[#new_names + 1] = e.name
      new_names[#new_names + 1] = e.id
    end
    local timed, due_ms = version == '' or e.mark_expected ~= '', e.due
    if timed then
      redis.call('HSET', e.key, 'def', e.definition, 'ver', (tonumber(version) or 0) + 1, 'mark', e.mark)
    else
      redis.call('HSET', e.key, 'def', e.definition, 'ver', (tonumber(version) or 0) + 1)
    end
    if version ~= '' and redis.call('HDEL', e.key, 'removed') == 1 then
      redis.call('HDEL', e.key, 'paused', 'pause_note', 'count')
      redis.call('PERSIST', e.key)
      redis.call('PERSIST', e.history)
      redis.call('DEL', e.tombstone)
    end
    if not timed then
      due_ms = redis.call('ZSCORE', due, e.id) or ''
    elseif due_ms ~= '' then
      dues[#dues + 1] = due_ms
      dues[#dues + 1] = e.id
    elseif version ~= '' then
      redis.call('ZREM', due, e.id)
    end
    if start ~= '' then redis.call('HSET', static, e.name, start) else hand_written[#hand_written + 1] = e.name end
    if version ~= '' then redis.call('HDEL', bad, e.id) end
    if e.skip ~= '' then redis.call('ZADD', e.skips, e.skip_to, e.skip) end
    if version ~= '' then redis.call('PEXPIRE', e.skips, skips_kept) end
    changed[#changed + 1] = e.id .. ':' .. due_ms
    statuses[i + 1] = 'put'
  end
end
if #changed > 0 then
  if #new_names > 0 then redis.call('HSET', names, unpack(new_names)) end
  if #dues > 0 then redis.call('ZADD', due, unpack(dues)) end
  if #hand_written > 0 then redis.call('HDEL', static, unpack(hand_written)) end
  if tonumber(redis.call('GET', schema_key) or '0') < tonumber(schema) then redis.call('SET', schema_key, schema) end
  put_in_news(news, news_seq, news_kept, 'entries', table.concat(changed, ','))
end
return statuses
