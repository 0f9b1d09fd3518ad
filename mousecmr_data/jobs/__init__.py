"""What the doors have done for them: a lab's own mice segmented, measured, checked and written.

``batch.run`` does it all; ``mouse.segment`` one mouse, without files; ``writing.write`` its files.
See docs/segment.md.
"""
