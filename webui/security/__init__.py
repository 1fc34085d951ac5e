"""Who may do what: one gate before every route, one table of what stays with the owner, and the logins."""
