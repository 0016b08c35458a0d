"""Steps of the schema, in pairs: `pre` runs before the first replica of a new version starts, `post` after the last."""
