-- REQUEUE LETTERS: let the tasks of dead letters wait in the timetable, as new sends; the letters go.
-- KEYS  1 dlq  2 dlq-bytes  3 dlq-counts  4 due  5 by-task  6 fired  7 cancelled  8 news  9 news-seq  10 schema  11 templates  12 template-dues;
--       then per letter: the letter, the entry, where its occasion is kept for a while
-- ARGV  1 schema version  2 news kept  3 number of templates  4 occasion kept ms; then per template: id, text, ms from now at which the last of its tasks is due;
--       then per letter: id, entry id, mid, task id, ms from now at which it is due, record as stored, after its third line
-- reply {now ms, per letter 'put' | 'gone' (there is no such letter) | 'taken' (the entry's id is another task's)}
-- Invariant: a task waits as a letter or in the timetable, never as both. A repeated call brings the same mids, and finds its own entries.
-- uses now, by_task, news
local dlq, bytes, counts, due, by_task, fired, cancelled, news, news_seq, schema_key, templates, template_dues = unpack(KEYS, 1, 12)
local schema, news_kept, kinds, occasion_kept = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
for i = 1, kinds do
  local at = 3 * i + 1
  redis.call('HSETNX', templates, ARGV[at + 1], ARGV[at + 2])
  redis.call('ZADD', template_dues, 'GT', string.format('%.0f', now + tonumber(ARGV[at + 3])), ARGV[at + 1])
end

local statuses, changed, freed = {now_text}, {}, 0
for i = 1, (#KEYS - 12) / 3 do
  local letter, entry, requeued, at = KEYS[10 + 3 * i], KEYS[11 + 3 * i], KEYS[12 + 3 * i], 4 + 3 * kinds + 6 * (i - 1)
  local id, entry_id, mid, task, delay_ms, rest = unpack(ARGV, at + 1, at + 6)
  local holder = string.match(redis.call('GETRANGE', entry, 0, 300), '^%d+\n([^\n]*)\n')
  local size, occasion = unpack(redis.call('HMGET', letter, 'size', 'occasion'))
  if holder == mid or (not size and redis.call('ZSCORE', fired, mid)) then
    statuses[i + 1] = 'put'
  elseif holder then
    statuses[i + 1] = 'taken'
  elseif not size then
    statuses[i + 1] = 'gone'
  else
    local due_text = string.format('%.0f', now + tonumber(delay_ms))
    redis.call('SET', entry, '1\n' .. mid .. '\n' .. now_text .. '\n' .. rest)
    redis.call('ZADD', due, due_text, entry_id)
    if task ~= '' then
      list_under(by_task, task, entry_id)
      redis.call('ZREM', cancelled, task)
    end
    redis.call('SET', requeued, occasion, 'PX', occasion_kept)
    redis.call('ZREM', dlq, id)
    redis.call('DEL', letter)
    freed = freed + tonumber(size)
    changed[#changed + 1] = entry_id .. ':' .. due_text
    statuses[i + 1] = 'put'
  end
end
if #changed > 0 then
  redis.call('DECRBY', bytes, string.format('%.0f', freed))
  redis.call('HINCRBY', counts, 'requeued', #changed)
  if tonumber(redis.call('GET', schema_key) or '0') < tonumber(schema) then redis.call('SET', schema_key, schema) end
  put_in_news(news, news_seq, news_kept, 'entries', table.concat(changed, ','))
end
return statuses
