"""A provider of OpenID Connect that is certified: panva's oidc-provider, as npm has it."""
