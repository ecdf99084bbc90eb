"""A project whose app has no name."""

import shop

app = shop.make_app(None)
