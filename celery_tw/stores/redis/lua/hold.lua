-- HOLD: pause one one-time task, or let it go on.
-- KEYS  1 due  2 entry  3 held  4 news  5 news-seq; then the lanes in which it may wait
-- ARGV  1 id  2 'pause' | 'resume'  3 news kept
-- What was paused in a lane is due at once when it goes on, and goes back to its lane, at the end.
-- reply 'changed' | 'same' (it was so already) | 'gone'
-- uses news
local due, entry, held, news, news_seq = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, verb, news_kept = ARGV[1], ARGV[2], ARGV[3]
if redis.call('EXISTS', entry) == 0 then return 'gone' end
local due_ms
if verb == 'pause' then
  due_ms = redis.call('ZSCORE', due, id)
  for i = 6, #KEYS do
    local since_ms = redis.call('ZSCORE', KEYS[i], id)
    due_ms = due_ms or since_ms
  end
  if not due_ms then return 'same' end
  redis.call('HSET', held, id, due_ms)
  redis.call('ZREM', due, id)
  for i = 6, #KEYS do redis.call('ZREM', KEYS[i], id) end
  due_ms = ''
else
  due_ms = redis.call('HGET', held, id)
  if not due_ms then return 'same' end
  redis.call('ZADD', due, due_ms, id)
  redis.call('HDEL', held, id)
end
put_in_news(news, news_seq, news_kept, 'entries', id .. ':' .. due_ms)
return 'changed'
