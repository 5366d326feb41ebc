package qupath.lib.io

import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import qupath.lib.scripting.PathObject

class GsonTools {
    static GsonTools getInstance() { new GsonTools() }
    static Map wrapFeatureCollection(Collection<PathObject> objects) {
        [type: 'FeatureCollection', features: objects*.feature]
    }
    Object fromJson(String text, Class type) { new JsonSlurper().parseText(text) }
    Tree toJsonTree(Object content) { new Tree(content: content) }
    String toJson(Tree tree) { JsonOutput.toJson(tree.content) }
}

class Tree {
    Object content

    Tree getAsJsonObject() { this }
    void add(String name, Tree tree) { content[name] = tree.content }
}
