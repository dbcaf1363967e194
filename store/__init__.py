"""Content-addressed store: digests, manifests, blobs, results, checked-out trees and their index."""
