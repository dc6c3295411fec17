"""Who answers when the model must not, and the breaker that says when to ask it again."""
