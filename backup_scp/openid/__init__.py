"""Log in at a provider elsewhere by OpenID Connect: Authorization Code with PKCE (docs/adr/0067).

``OpenIDProvider`` implements ``ports.IdentityProvider``.  It may import ``services``, ``ports``, ``machine`` and
``errors`` only; nothing else uses joserfc.
"""
