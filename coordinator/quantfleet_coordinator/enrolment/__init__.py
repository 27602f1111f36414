"""How a stranger becomes a node or a user of the fleet: tokens, certificates, revocation. Not for who may call what."""
