-- NEWS: put_in_news tells all who follow what waits that something of a kind has changed. Their numbers show a gap to who has missed some.
local function put_in_news(news, news_seq, news_kept, kind, what)
  local number = redis.call('INCR', news_seq)
  redis.call('XADD', news, 'MAXLEN', '~', news_kept, '*', 'n', number, 'kind', kind, 'what', what)
end
