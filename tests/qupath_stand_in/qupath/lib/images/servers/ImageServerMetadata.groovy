package qupath.lib.images.servers

class ImageServerMetadata {
    static class Builder {
        Map metadata

        Builder(Map metadata) { this.metadata = [:] + metadata }
        Builder pixelSizeMicrons(Number width, Number height) { metadata.mpp = width; this }
        Map build() { metadata }
    }
}
