package qupath.lib.scripting

/** An object of an image: a feature of GeoJSON. */
class PathObject {
    Map feature

    PathObject(Map feature) { this.feature = feature }
    UUID getID() { UUID.fromString(feature.id) }
    String getPathClass() { feature.properties.classification?.name }
}
