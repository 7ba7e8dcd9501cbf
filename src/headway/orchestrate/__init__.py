"""The stages put together: plan, run, and what needs several of them."""
