-- REMOVE: take one entry off the timetable.
-- KEYS  1 due  2 names  3 static  4 held  5 news  6 news-seq  7 entry  8 tombstone  9 history  10 skips  11 bad; then the lanes in which a one-time task may wait
-- ARGV  1 name  2 id  3 'once' | 'recurring'  4 start ms of the removing process ('' = by a person)  5 tombstone ms  6 news kept
-- reply 'removed' | 'gone' | 'static' (a settings entry, by a person) | 'older' (written by a newer process)
-- A recurring entry leaves its id, version and mark for the tombstone's life: added again, it fires no slot twice.
-- uses news
local due, names, static, held, news, news_seq, entry, tombstone, history, skips, bad =
  unpack(KEYS, 1, 11)
local name, id, kind, start, kept, news_kept = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if redis.call('HGET', names, name) ~= id then return 'gone' end
local writer = redis.call('HGET', static, name)
if writer and start == '' then return 'static' end
if writer and tonumber(writer) > tonumber(start) then return 'older' end
redis.call('ZREM', due, id)
redis.call('HDEL', names, name)
redis.call('HDEL', static, name)
redis.call('HDEL', held, id)
redis.call('HDEL', bad, id)
if kind == 'once' then
  redis.call('DEL', entry)
  for i = 12, #KEYS do redis.call('ZREM', KEYS[i], id) end
else
  local time = redis.call('TIME')
  redis.call('HSET', entry, 'removed', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
  redis.call('HINCRBY', entry, 'ver', 1)
  for _, key in ipairs({entry, history, skips}) do redis.call('PEXPIRE', key, kept) end
  redis.call('SET', tombstone, id .. ' ' .. (start == '' and '0' or start), 'PX', kept)
end
put_in_news(news, news_seq, news_kept, 'entries', id .. ':')
return 'removed'
