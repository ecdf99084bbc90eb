-- PUT: store new or changed recurring entries.
-- KEYS  1 due  2 names  3 static  4 news  5 news-seq  6 schema  7 bad; then per entry: entry, tombstone, skips, history
-- ARGV  1 number of entries  2 schema version  3 start ms of the writing process ('' = not a settings entry)  4 news kept  5 skips kept ms; then per entry
--       name, id, version expected ('' = none stored), definition JSON, mark expected, mark ms, due ms ('' = none), skip ('' | JSON), its end ms
-- reply {now ms, status per entry}: 'put' | 'raced' (somebody else wrote: read again) | 'older' (a newer process owns it)
-- A mark expected of '' leaves mark and due time as they stand: only what the entry sends has changed.
-- Version and mark are a compare-and-set: a repeated call answers 'raced', and the reader then finds its own definition stored.
-- The first write may be refused when memory is full, and then nothing was done.
local due, names, static, news, news_seq, schema_key, bad = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local entries, schema, start, news_kept, skips_kept = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local time = redis.call('TIME')
local now_text = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

local function owned_by_newer(name, tombstone)
  if start == '' then return false end
  local writer = redis.call('HGET', static, name)
  if writer then return tonumber(writer) > tonumber(start) end
  local left = redis.call('GET', tombstone)
  local remover = left and string.match(left, '^%d+ (%d+)$')
  return remover and tonumber(remover) > tonumber(start)
end

local named = {}
for i = 1, entries do named[i] = ARGV[6 + 9 * (i - 1)] end
local holders = redis.call('HMGET', names, unpack(named))

local statuses, changed, new_names, dues, hand_written = {now_text}, {}, {}, {}, {}
for i = 1, entries do
  local entry, tombstone, skips, history = KEYS[4 + 4 * i], KEYS[5 + 4 * i], KEYS[6 + 4 * i], KEYS[7 + 4 * i]
  local at = 5 + 9 * (i - 1)
  local name, id, version, definition, mark_expected, mark, due_ms, skip, skip_to =
    ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6], ARGV[at + 7], ARGV[at + 8], ARGV[at + 9]
  local holder = holders[i]
  local found = redis.call('HMGET', entry, 'ver', 'mark')
  local moved = version ~= '' and mark_expected ~= '' and (tonumber(found[2] or '0') or 0) ~= tonumber(mark_expected)
  if (holder and holder ~= id) or (found[1] or '') ~= version or moved then
    statuses[i + 1] = 'raced'
  elseif owned_by_newer(name, tombstone) then
    statuses[i + 1] = 'older'
  else
    if not holder then
      new_names[#new_names + 1] = name
      new_names[#new_names + 1] = id
    end
    if version == '' or mark_expected ~= '' then
      redis.call('HSET', entry, 'def', definition, 'ver', (tonumber(version) or 0) + 1, 'mark', mark)
    else
      redis.call('HSET', entry, 'def', definition, 'ver', (tonumber(version) or 0) + 1)
    end
    if version ~= '' and redis.call('HDEL', entry, 'removed') == 1 then
      redis.call('HDEL', entry, 'paused', 'pause_note', 'count')
      redis.call('PERSIST', entry)
      redis.call('PERSIST', history)
      redis.call('DEL', tombstone)
    end
    if version == '' or mark_expected ~= '' then
      if due_ms ~= '' then
        dues[#dues + 1] = due_ms
        dues[#dues + 1] = id
      elseif version ~= '' then
        redis.call('ZREM', due, id)
      end
    else
      due_ms = redis.call('ZSCORE', due, id) or ''
    end
    if start ~= '' then redis.call('HSET', static, name, start) else hand_written[#hand_written + 1] = name end
    if version ~= '' then redis.call('HDEL', bad, id) end
    if skip ~= '' then redis.call('ZADD', skips, skip_to, skip) end
    if version ~= '' then redis.call('PEXPIRE', skips, skips_kept) end
    changed[#changed + 1] = id .. ':' .. due_ms
    statuses[i + 1] = 'put'
  end
end
if #changed > 0 then
  if #new_names > 0 then redis.call('HSET', names, unpack(new_names)) end
  if #dues > 0 then redis.call('ZADD', due, unpack(dues)) end
  if #hand_written > 0 then redis.call('HDEL', static, unpack(hand_written)) end
  if tonumber(redis.call('GET', schema_key) or '0') < tonumber(schema) then redis.call('SET', schema_key, schema) end
  local number = redis.call('INCR', news_seq)
  redis.call('XADD', news, 'MAXLEN', '~', news_kept, '*', 'n', number, 'kind', 'entries', 'what', table.concat(changed, ','))
end
return statuses
