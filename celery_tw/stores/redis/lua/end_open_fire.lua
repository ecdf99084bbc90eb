-- END OPEN FIRE: count tasks of an entry's fires no longer, and wake the slot that waits until none is left.
-- KEYS  1 open fires  2 names  3 backlogs  4 news  5 news-seq
-- ARGV  1 entry name  2 '' or 'queued' (only those that no worker has taken up)  3 news kept; then the task ids
-- reply how many are left, lapsed ones not counted. It may be repeated.
-- uses now, news
local open, names, backlogs, news, news_seq = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local name, only, news_kept = ARGV[1], ARGV[2], ARGV[3]
for i = 4, #ARGV do
  if only == '' or string.find(redis.call('HGET', open, ARGV[i]) or '', '^queued ') then redis.call('HDEL', open, ARGV[i]) end
end
local left, facts = 0, redis.call('HGETALL', open)
for i = 1, #facts, 2 do
  if (tonumber(string.match(facts[i + 1], '^%a+ (%d+)$')) or 0) > now then left = left + 1 else redis.call('HDEL', open, facts[i]) end
end
local id = left == 0 and redis.call('HGET', names, name)
if id and redis.call('ZSCORE', backlogs, id .. ':waits') then
  redis.call('ZADD', backlogs, 0, id .. ':waits')
  put_in_news(news, news_seq, news_kept, 'backlog', id .. ':waits')
end
return left
