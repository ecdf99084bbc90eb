-- BURY: keep the message of a task that has failed for good, and what is known of its death.
-- KEYS  1 dlq  2 the letter  3 dlq-bytes  4 dlq-counts  5 the run of the send  6 the occasion of a letter that was requeued a moment ago
-- ARGV  1 id  2 occasion (two signals of one death have it in common)  3 message  4 facts  5 size in bytes  6 token of the run, or ''
-- reply {now ms, 'new' | 'again' | 'same', how often it has died}
-- A second signal of the same death changes what is known and counts nothing; so does a repeated call. One that comes after the requeue is no letter.
-- The run, if it is still that of the token, is never acquired again: should its process die now, the message comes back and finds that.
-- The message comes first: a full memory refuses it, and then nothing has been written.
-- uses now
local dlq, letter, bytes, counts, run, requeued = unpack(KEYS)
local id, occasion, message, facts, size, token = unpack(ARGV)
if redis.call('GET', requeued) == occasion then return {now_text, 'same', 0} end
local before, last_occasion, count = unpack(redis.call('HMGET', letter, 'size', 'occasion', 'count'))
local verdict = not before and 'new' or last_occasion == occasion and 'same' or 'again'
redis.call('HSET', letter, 'message', message, 'facts', facts, 'occasion', occasion, 'last', now_text, 'size', size)
if verdict == 'new' then redis.call('HSET', letter, 'first', now_text) end
if verdict ~= 'same' then count = redis.call('HINCRBY', letter, 'count', 1) end
redis.call('ZADD', dlq, now_text, id)
redis.call('INCRBY', bytes, string.format('%.0f', tonumber(size) - tonumber(before or '0')))
if verdict == 'new' then redis.call('HINCRBY', counts, 'buried', 1) end
if token ~= '' and redis.call('HGET', run, 'token') == token then redis.call('HSET', run, 'buried', '1') end
return {now_text, verdict, tonumber(count)}
