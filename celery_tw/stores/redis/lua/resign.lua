-- RESIGN: give this very term up, and tell the stand-bys at once.
-- KEYS  1 leader  2 news  3 news-seq
-- ARGV  1 epoch  2 news kept
-- reply 1 resigned, 0 another term leads. A late resignation can never end a newer term.
-- uses news
local leader, news, news_seq, epoch = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
if redis.call('HGET', leader, 'epoch') ~= epoch then return 0 end
redis.call('DEL', leader)
put_in_news(news, news_seq, ARGV[2], 'resigned', epoch)
return 1
