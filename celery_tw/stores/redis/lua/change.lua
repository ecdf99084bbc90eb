-- CHANGE: change the state of one recurring entry: pause, resume, repair.
-- KEYS  1 due  2 entry  3 skips  4 news  5 news-seq
-- ARGV  1 id  2 version and mark expected, as one text  3 due ms ('' = none)  4 skip ('' | JSON)  5 its end ms  6 news kept  7 skips kept ms; then pairs of field, value
-- reply 'changed' | 'raced'. The version grows, so that a leader that decided on the old state cannot fire it.
-- uses news
local due, entry, skips, news, news_seq = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, version, due_ms, skip, skip_to, news_kept = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local stored = redis.call('HMGET', entry, 'ver', 'removed', 'mark')
if not stored[1] or stored[1] .. ' ' .. (stored[3] or '0') ~= version or stored[2] then return 'raced' end
redis.call('HSET', entry, 'ver', tonumber(stored[1]) + 1, unpack(ARGV, 8))
if due_ms == '' then redis.call('ZREM', due, id) else redis.call('ZADD', due, due_ms, id) end
if skip ~= '' then
  redis.call('ZADD', skips, skip_to, skip)
  redis.call('PEXPIRE', skips, ARGV[7])
end
put_in_news(news, news_seq, news_kept, 'entries', id .. ':' .. due_ms)
return 'changed'
