"""Client of the OCI distribution protocol: hosts, credentials, tokens, transport, downloads.

It fetches documents and blobs from registries, and trusts nothing that they say: not a size, a
digest, a redirect, a realm or a media type. What becomes of the content is the business of
``fastbox.image.pull``.
"""
